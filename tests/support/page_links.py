"""The pages of /docs as a browser finds them: their anchors, and what they link to and load."""

from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit


class Page(HTMLParser):
    """The anchors of a page, and what it links to and loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.handlers += [name for name in given if name.startswith("on") or name == "style"]
        if "id" in given:
            self.ids.append(given["id"])
        if tag in {"link", "script", "img"}:
            self.loaded.append(given.get("href") or given.get("src") or "inline")
        elif "href" in given:
            self.links.append(given["href"])


def crawl(fetch: Callable[[str], str], start: str) -> Iterator[tuple[str, Page]]:
    """Every page that can be reached from the path `start`, by its path. `fetch`: gives the text at a path, or fails."""
    waiting, seen = [start], set[str]()
    while waiting:
        address = waiting.pop()
        if address in seen or address.endswith(".json"):
            continue
        seen.add(address)
        page = Page(fetch(address))
        yield address, page
        waiting += [urlsplit(urljoin(address, link)).path for link in page.links if "://" not in link]


def assert_whole(pages: Mapping[str, Page], fetch: Callable[[str], str]) -> None:
    """Fail unless each link with an anchor leads to one, and all that the pages load is there, without a root of its own."""
    loaded_ones = set[str]()
    for address, page in pages.items():
        for link in page.links:
            target, _, anchor = urljoin(address, link).partition("#")
            if anchor and "://" not in link:
                assert anchor in pages[target].ids, f"{address}: {link}"
        for loaded in page.loaded:
            assert not loaded.startswith(("/", "http")), loaded
            loaded_ones.add(urljoin(address, loaded))
    for loaded in loaded_ones:
        fetch(loaded)
