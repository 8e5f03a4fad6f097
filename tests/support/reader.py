"""Somebody who reads the ops page without script: follows links, fills in forms, and remembers each address and title."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from flask.testing import FlaskClient
from lxml import html


class Reader:
    """A page in a browser of `client`. What is shown is read from its markup."""

    def __init__(self, client: FlaskClient) -> None:
        self._client = client
        self.path, self.status, self.source = "/ops", 200, ""
        self.seen: list[str] = []  # every address and title

    def open(self, path: str, status: int = 200) -> "Reader":
        """Go to an address, seen from where this is; and on to where it leads."""
        here = self.path.partition("?")[0]  # urljoin keeps the query for an address that is an empty one
        return self._go(here if path == "?" else urljoin(self.path, path), None, status)

    def post(self, path: str, expected: int = 200, /, **values: Any) -> "Reader":
        """Send a form there."""
        return self._go(urljoin(self.path, path), values, expected)

    def submit(self, words: str, expected: int = 200, /, **values: Any) -> "Reader":
        """Press the button with these words, having put `values` into its form; None leaves a field out."""
        page = self._page()
        for button in page.iter("button"):
            if words in {_text(button), button.get("aria-label")}:
                named = button.get("form")
                form = next(button.iterancestors("form")) if named is None else page.get_element_by_id(named)
                filled = {**dict(_fields(form)), **values}
                if name := button.get("name"):
                    filled[name] = button.get("value")
                given = {name: value for name, value in filled.items() if value is not None}
                return self._go(urljoin(self.path, form.get("action") or self.path), given, expected)
        raise AssertionError(f"there is no button {words!r} in {self.text}")

    def follow(self, words: str, status: int = 200) -> "Reader":
        """Follow the link with these words."""
        return self.open(self.links()[words], status)

    def links(self) -> dict[str, str]:
        """The address of each link by its words."""
        return {_text(link): link.get("href", "") for link in self._page().iter("a")}

    @property
    def text(self) -> str:
        """What stands on the page, without its bar."""
        return _text(self._page().get_element_by_id("content"))

    @property
    def spaced(self) -> str:
        """The same with a blank between any two elements, as a reader sees cells and lines apart."""
        return " ".join(" ".join(self._page().get_element_by_id("content").itertext()).split())

    @property
    def title(self) -> str:
        """Its title."""
        return _text(next(self._page().iter("title")))

    def buttons(self) -> list[str]:
        """The words of its buttons."""
        return [_text(button) for button in self._page().iter("button")]

    def rows(self) -> list[str]:
        """The rows of its lists."""
        return [_text(row) for row in self._page().find_class("row")]

    def _page(self) -> html.HtmlElement:
        return html.document_fromstring(self.source)

    def _go(self, path: str, values: dict[str, Any] | None, status: int) -> "Reader":
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if values is not None else {}
        data = urlencode(values, doseq=True) if values is not None else None
        answer = self._client.open(path, method="GET" if values is None else "POST", data=data, headers=headers)
        self.seen += [path, *(f"{name}: {value}" for name, value in answer.headers)]
        if answer.status_code == 303:
            return self._go(urljoin(path, answer.headers["Location"]), None, status)
        assert answer.status_code == status, (path, answer.status_code, answer.text)
        self.path, self.status, self.source = path, answer.status_code, answer.text
        self.seen.append(self.title)
        assert urlsplit(path).path.startswith("/ops")
        return self


def _text(element: html.HtmlElement) -> str:
    return " ".join(element.text_content().split())


def _fields(form: html.HtmlElement) -> Iterator[tuple[str, Any]]:
    several: dict[str, list[str]] = {}
    for field in form.iter("input", "textarea"):
        name, kind = field.get("name"), field.get("type")
        if name is None or (kind == "checkbox" and field.get("checked") is None):
            continue
        value = field.get("value", "") if field.tag == "input" else field.text or ""
        if kind in {"checkbox", "hidden"}:
            several.setdefault(name, []).append(value)
        else:
            yield name, value
    yield from several.items()
