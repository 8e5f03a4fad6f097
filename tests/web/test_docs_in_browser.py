"""The pages of /docs as a browser shows them: nothing scrolls sideways, no word is cut, colours can be read.

One browser serves all of it. Where there is none, pytest's summary says that this was left out.
"""

from collections.abc import Iterator

import pytest

from receiptsvc.server.public_path import UnderPublicPath
from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from receiptsvc.web.docs import guides
from tests.support import browser
from tests.support.browser import Tab
from tests.support.callers import make_settings
from tests.support.serving import served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.find() is None, reason="there is no Chromium: apt-get install chromium"),
]

PATH = "/sms"  # the pages are served below the path of PUBLIC_URL

# Elements that are wider than their place, or stand out of the page; words that are in two lines. In code, blanks at
# the end of a line may hang out of its box, and nothing scrolls for them.
FAULTS = r"""
(() => {
  const faults = [];
  const name = (element) => `${element.tagName} ${element.className} ${element.textContent.trim().slice(0, 60)}`;
  const isShown = (element) => element.checkVisibility() && element.getClientRects().length > 0;
  if (document.documentElement.scrollWidth > innerWidth) faults.push(`the page is ${document.documentElement.scrollWidth} wide`);
  for (const element of document.querySelectorAll("main, main *, .bar, .bar *")) {
    if (!isShown(element) || element.matches("thead, thead *, wbr, input")) continue;
    if (element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== "inline") {
      faults.push(`wider than its place: ${name(element)}`);
    } else if (!element.closest("pre") && element.getBoundingClientRect().right > innerWidth + 1) faults.push(`out of the page: ${name(element)}`);
  }
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!isShown(node.parentElement) || node.parentElement.closest("thead")) continue;
    for (const word of node.data.matchAll(/[\p{L}\p{N}_]{2,}/gu)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const lines = [...range.getClientRects()].filter((place) => place.width > 0);
      if (lines.some((place) => Math.abs(place.top - lines[0].top) > 2)) faults.push(`cut: ${word[0]} in ${name(node.parentElement)}`);
    }
  }
  return faults;
})()
"""

# Texts with too little contrast to what is behind them, by WCAG 2.2 AA.
PALE = r"""
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const read = (colour) => {
    if (!known.has(colour)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      known.set(colour, canvas.getImageData(0, 0, 1, 1).data);
    }
    return known.get(colour);
  };
  const light = ([red, green, blue]) => {
    const [r, g, b] = [red, green, blue].map((part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = read(getComputedStyle(each).backgroundColor);
      if (colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const pale = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (walker.currentNode.data.trim() === "" || !element.checkVisibility() || element.matches("script")) continue;
    const [one, other] = [light(read(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < 4.5) pale.add(`${ratio.toFixed(2)} ${element.tagName}.${element.className} in ${element.parentElement.className}`);
  }
  return [...pale];
})()
"""


@pytest.fixture(scope="module")
def url(desk_database: Database) -> Iterator[str]:
    def make(address: str) -> UnderPublicPath:
        app = create_app(make_settings(PUBLIC_URL=address + PATH), desk_database)
        return UnderPublicPath(app, PATH, {"docs", "openapi.json", "static"})

    with served(make) as address:
        yield address + PATH


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser.started(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture
def wide(tab: Tab) -> Tab:
    """The page on a desk."""
    tab.resize(1280, 900)
    return tab


def pages(tab: Tab) -> list[str]:
    found: list[str] = tab.run("[...document.querySelectorAll('nav .tree > ul > li > a')].map((link) => link.href)")
    return found


def test_nothing_scrolls_sideways_and_no_word_is_cut(tab: Tab, url: str) -> None:
    faults: dict[str, list[str]] = {}
    tab.open(f"{url}/docs")
    addresses = pages(tab)
    assert len(addresses) > len(guides.NAMES) + 10
    for address in addresses:
        tab.open(address)
        for width in (375, 1280):
            tab.resize(width, 900)
            found = tab.run(FAULTS)
            if found:
                faults[f"{address} at {width}"] = found[:5]
    assert faults == {}


def test_every_text_can_be_read_in_light_and_dark(wide: Tab, url: str) -> None:
    for path in ("docs", "docs/messages", "docs/suppressions", "docs/guides/statuses"):
        wide.open(f"{url}/{path}")
        for scheme in ("light", "dark"):
            wide.prefer(scheme)
            assert wide.run(PALE) == [], (path, scheme)


def test_search_leads_to_a_call_by_the_keyboard_alone(wide: Tab, url: str) -> None:
    wide.open(f"{url}/docs/guides/sending")
    wide.press("/")
    wide.write("explain status")
    wide.run(
        "new Promise((done) => { const look = () => found.children.length ? done() : setTimeout(look, 20); look(); })"
    )
    assert wide.run("found.querySelector('a').textContent").startswith("Explain a message's status")
    assert wide.run("document.querySelector('[role=status]').textContent").endswith("found")
    wide.press("ArrowDown")
    assert wide.run("document.activeElement === found.querySelector('a')")
    wide.press("Enter")
    wide.run("new Promise((done) => { const look = () => location.hash ? done() : setTimeout(look, 20); look(); })")
    assert wide.run("location.href") == f"{url}/docs/messages#explain_message"


def test_the_menu_of_a_small_screen_opens_and_closes(tab: Tab, url: str) -> None:
    tab.resize(375, 800)
    tab.open(f"{url}/docs/messages")
    is_shown = "document.querySelector('nav').checkVisibility()"
    assert not tab.run(is_shown)
    tab.run("document.querySelector('.menu').click()")
    assert tab.run(is_shown)
    tab.run("document.querySelector('nav .tree ul ul a').click()")
    assert not tab.run(is_shown)
    assert tab.run("location.hash") == "#list_messages"


def test_the_chosen_language_stays_and_is_what_is_copied(wide: Tab, url: str) -> None:
    wide.open(f"{url}/docs/messages")
    wide.run("document.querySelector('label[for=send_messages-Python]').click()")
    wide.open(f"{url}/docs/search")
    shown = "[...document.querySelectorAll('#search-Python ~ pre')].filter((block) => block.checkVisibility())"
    assert wide.run(f"{shown}.length") == 1
    wide.run("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    wide.run(f"{shown}[0].querySelector('.copy').click()")
    assert wide.run("copied").startswith("import os\n\nimport requests\n")
    assert wide.run(f"{shown}[0].querySelector('.copy').textContent") == "Copied"


def test_it_works_without_script(wide: Tab, url: str) -> None:
    wide.call("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        wide.open(f"{url}/docs/messages")
        assert wide.run("document.querySelectorAll('.copy').length") == 0
        assert not wide.run("document.querySelector('.search').checkVisibility()")
        assert wide.run("document.querySelector('nav .tree').checkVisibility()")
        wide.run("document.querySelector('label[for=send_messages-JavaScript]').click()")
        assert wide.run("document.querySelector('#send_messages-JavaScript').checked")
    finally:
        wide.call("Emulation.setScriptExecutionDisabled", {"value": False})


def test_no_page_complained(wide: Tab, url: str) -> None:
    wide.open(f"{url}/docs")
    wide.run("fetch('https://example.com/').catch(() => 0)")  # a refused one is seen, so that none seen means none
    complaints = wide.complaints()
    assert any("Content Security Policy" in each for each in complaints)
    assert [each for each in complaints if "example.com" not in each] == []
