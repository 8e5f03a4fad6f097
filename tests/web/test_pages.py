"""The pages of /docs: what is on them, and that every link leads to something, under any path."""

import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import Client

from receiptsvc.locations import PROJECT
from receiptsvc.server.public_path import UnderPublicPath
from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from receiptsvc.web.docs import guides, markdown, site
from tests.support.callers import bearer, make_settings
from tests.support.page_links import Page, assert_whole, crawl
from tests.test_docs import anchors_of

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
MAX_BYTES = 320 * 1024


@pytest.fixture(scope="module")
def document(desk: FlaskClient) -> Any:
    return desk.get("/openapi.json").json


@pytest.mark.slow
@pytest.mark.parametrize("path", ["", "/a/b"])
def test_every_link_leads_to_something_under_any_path(desk: FlaskClient, path: str) -> None:
    client = Client(UnderPublicPath(desk.application, path, {"docs", "openapi.json", "static"}))

    def fetch(address: str) -> str:
        with client.get(address) as answer:
            assert answer.status_code == 200, address
            return answer.get_data().decode(errors="replace")  # a picture is none of a text

    pages = dict(crawl(fetch, f"{path}/docs"))
    assert f"{path}/docs/messages" in pages
    assert f"{path}/docs/guides/decisions/0034-whose-refusal" in pages
    for address, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), address
        assert page.handlers == [], address
    assert_whole(pages, fetch)


@pytest.mark.parametrize(
    ("path", "address", "location"),
    [
        ("", "/", "ops"),
        ("", "/docs/", "../docs"),
        ("/sms", "/", "ops"),  # a proxy took the path off: it is in the address that the browser asked
        ("/sms", "/sms", "/sms/ops"),
        ("/sms", "/sms/", "/sms/ops"),
        ("/sms", "/sms/docs/", "/sms/docs"),
    ],
)
def test_a_browser_is_sent_to_a_page(desk: FlaskClient, path: str, address: str, location: str) -> None:
    client = Client(UnderPublicPath(desk.application, path, {"docs"}))
    answer = client.get(address, headers=BROWSER)
    assert (answer.status_code, answer.headers["Location"]) == (302, location)


def test_without_the_ops_page_a_browser_is_sent_to_the_documentation(desk_database: Database) -> None:
    client = create_app(make_settings(OPS_PAGE="off"), desk_database).test_client()
    assert client.get("/", headers=BROWSER).headers["Location"] == "docs"
    assert client.get("/ops", headers=BROWSER).status_code == 404


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html;q=0.5,application/json", ""])
def test_a_program_finds_nothing_at_the_root(desk: FlaskClient, accept: str) -> None:
    answer = desk.get("/", headers={"Accept": accept})
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


@pytest.mark.parametrize(
    "path",
    [
        "/docs/none",
        "/docs/guides/none",
        "/docs/guides/../../setup",
        "/docs/guides/api",
        "/docs/guides/pictures/none.png",
    ],
)
def test_what_is_no_page_is_404(desk: FlaskClient, path: str) -> None:
    assert desk.get(path).status_code == 404


def test_each_call_is_on_the_page_of_its_noun_in_three_languages(desk: FlaskClient, document: Any) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method in {"get", "post", "delete"}:
                page = desk.get(f"/docs/{operation['tags'][0]}").text
                assert f'id="{operation["operationId"]}"' in page, path
                for language in ("curl", "Python", "JavaScript"):
                    assert page.count(f'id="{operation["operationId"]}-{language}"') == 1


def test_each_object_is_described_once(desk: FlaskClient, document: Any) -> None:
    nouns = [tag["name"] for tag in document["tags"]]
    pages = [Page(desk.get(f"/docs/{noun}").text) for noun in nouns] + [Page(desk.get("/docs").text)]
    shown = [identifier for page in pages for identifier in page.ids if identifier.startswith("schema-")]
    assert sorted(shown) == sorted(f"schema-{name}" for name in document["components"]["schemas"])


@pytest.mark.parametrize("name", guides.NAMES)
def test_the_guides_are_the_files_of_the_repository(desk: FlaskClient, name: str) -> None:
    page = desk.get(f"/docs/guides/{name}").text
    for anchor in anchors_of(PROJECT / "docs" / f"{name}.md"):
        assert f'id="{anchor}"' in page
    assert "<table" in page
    assert "&lt;!--" not in page


def test_the_pictures_of_a_guide_are_shown_in_it(desk: FlaskClient) -> None:
    sources = re.findall(r'<img src="([^"]+)" alt="[^"]+"', desk.get("/docs/guides/ops").text)
    assert len(sources) == 4
    for source in sources:
        picture = desk.get(f"/docs/guides/{source}")
        assert (picture.status_code, picture.content_type) == (200, "image/png")
        assert picture.data.startswith(b"\x89PNG")


def test_search_finds_calls_objects_and_sections_of_guides(desk: FlaskClient) -> None:
    listed: Any = desk.get("/docs/search.json").json
    entries = {entry["target"]: entry for entry in listed}
    assert entries["docs/messages#send_messages"]["kind"] == "POST /v1/messages"
    assert entries["docs/messages#schema-MessageStatus"]["kind"] == "Words"
    assert "pg_dump" in entries["docs/guides/operations#backup-and-restore"]["words"]
    for target in entries:
        page, _, anchor = target.partition("#")
        assert f'id="{anchor}"' in desk.get(f"/{page}").text, target


@pytest.mark.parametrize(
    ("word", "target"),
    [
        ("webhook", "docs/guides/receiving#what-became-of-a-text"),
        ("pagination", "docs#how-to-ask"),
        ("429", "docs#errors"),
        ("timeout", "docs/guides/sending#what-happens-after-a-time-out"),
        ("bulk", "docs/messages#send_messages"),
        ("openapi", "docs#first-message"),
        ("price", "docs/messages#send_messages"),
        ("poll", "docs/messages#list_messages"),
        ("sync", "docs/events#stream_events"),
        ("unmatched", "docs#what-happened-to-a-message"),
    ],
)
def test_search_finds_what_people_look_for(desk: FlaskClient, word: str, target: str) -> None:
    listed: Any = desk.get("/docs/search.json").json
    assert target in {entry["target"] for entry in listed if word in entry["words"].lower()}


def test_every_other_word_of_search_finds_something(desk: FlaskClient) -> None:
    listed: Any = desk.get("/docs/search.json").json
    assert set(site.ALSO_FOUND_BY) <= {entry["target"] for entry in listed}


def test_two_pages_never_have_the_same_title(desk: FlaskClient) -> None:
    tree = desk.get("/docs").text.partition('class="tree"')[2].partition("</nav>")[0]
    titles = re.findall(r'<li><a href="[^"#]*"[^>]*>([^<]*)</a>', tree)
    assert "Pause, cancel, resolve" in titles
    assert len(titles) == len(set(titles))


def test_nothing_comes_from_another_host_or_runs_inline(desk: FlaskClient) -> None:
    policy = desk.get("/docs").headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_a_page_with_all_that_it_loads_is_small(desk: FlaskClient, document: Any) -> None:
    loaded = ["/static/docs.css", "/static/docs.js", "/static/icon.svg", "/docs/search.json"]
    pages = [
        "/docs",
        *(f"/docs/{tag['name']}" for tag in document["tags"]),
        *(f"/docs/guides/{name}" for name in guides.NAMES),
    ]

    def size_of(address: str) -> int:
        with desk.get(address) as answer:
            return len(answer.get_data())

    assert max(map(size_of, pages)) + sum(map(size_of, loaded)) <= MAX_BYTES


def test_the_pages_need_no_key(desk: FlaskClient) -> None:
    for path in ("/docs", "/docs/messages", "/docs/guides/sending", "/docs/search.json"):
        assert desk.get(path, headers=bearer("wrong")).status_code == 200


def test_descriptions_are_escaped_in_the_page() -> None:
    page = markdown.html("## A\n\n- `<b>` **c**\n- <i>\n\n```\n<u>\n```\n\n<p>\n\n[d](javascript:e)")
    assert re.sub(r"\s|<a class=.*?</a>", "", page) == (
        '<h2id="a">A</h2><ul><li><code>&lt;b&gt;</code><strong>c</strong></li><li>&lt;i&gt;</li></ul>'
        "<pre><code>&lt;u&gt;</code></pre><p>&lt;p&gt;</p><p>[d](javascript:e)</p>"
    )
    assert markdown.inline("<b> `<i>`") == "&lt;b&gt; <code>&lt;i&gt;</code>"


def test_code_breaks_only_where_a_reader_expects_it() -> None:
    assert markdown.code("/v1/a_b?c=d&e") == "/<wbr>v1/<wbr>a_b?<wbr>c=<wbr>d&amp;<wbr>e"
    assert markdown.code("<a/>'\"") == "&lt;a/<wbr>&gt;&#39;&#34;"
    assert markdown.code('"a":"b"') == "&#34;a&#34;:<wbr>&#34;b&#34;"
    assert (
        markdown.code("a If-None-Match,-b")
        == 'a <span class="whole">If-None-Match</span>,<wbr><span class="whole">-b</span>'
    )


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("[a](glossary.md)", '<a href="found">a</a>'),
        ("a.md [glossary.md](glossary.md) a.md", 'a.md <a href="found">glossary</a> a.md'),
        ("[`a`](../README.md)", "<code>a</code>"),
        ("![a](message.png)", '<img src="pictures/message.png" alt="a" loading="lazy" />'),
        ("![a](none.png)", "a"),
        ("[a](https://example.com)", '<a href="https://example.com">a</a>'),
    ],
)
def test_links_of_guides_that_lead_nowhere_stay_text(text: str, html: str) -> None:
    targets = {
        "glossary.md": "found",
        "message.png": "pictures/message.png",
        "https://example.com": "https://example.com",
    }
    assert str(markdown.read(text, targets.get).html).strip() == f"<p>{html}</p>"
