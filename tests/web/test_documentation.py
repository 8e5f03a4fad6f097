"""The OpenAPI document and its page."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from receiptsvc.config import PROJECT
from receiptsvc.domain import meanings
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.statuses import Effect, Status
from receiptsvc.web.docs import pages, reference
from receiptsvc.web.http import auth


@pytest.fixture(scope="module")
def document(desk: FlaskClient) -> Any:
    return desk.get("/openapi.json").json


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in document["paths"].items():
        for method in ("get", "post", "delete"):
            if method in methods:
                yield path, method, methods[method]


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_it_is_openapi_3_1_and_every_reference_resolves(document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    for path in set(references(document)):
        value = document
        for part in path.removeprefix("#/").split("/"):
            value = value[part]


def test_every_route_of_the_api_is_in_it_with_its_security(desk: FlaskClient, document: Any) -> None:
    documented = {(path, method): each for path, method, each in operations(document)}
    app = desk.application
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith(("documentation.", "metrics.")):
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in (rule.methods or set()) - {"HEAD"}:
            operation = documented.pop((path, method.lower()))
            scope = auth.declared_scope(app.view_functions[rule.endpoint])
            assert operation["security"] == ([] if scope == auth.PUBLIC else [{"bearer": [scope]}])
    assert documented == {}


def test_every_operation_lists_its_problems(document: Any) -> None:
    for path, method, operation in operations(document):
        wanted = {"401", "403", "500"} if operation["security"] else {"500"}
        assert wanted <= set(operation["responses"]), (path, method)
        for response in operation["responses"].values():
            known = document["components"]["responses"][response["$ref"].split("/")[-1]] if "$ref" in response else None
            assert known is None or set(known["content"]) == {"application/problem+json"}


def test_every_field_and_parameter_is_described(document: Any) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"], name
        for field, described in schema["properties"].items():
            assert described.get("description"), (name, field)
            assert "type" in described or {"$ref", "anyOf", "allOf"} & set(described), (name, field)
    for path, _, operation in operations(document):
        for parameter in [*operation.get("parameters", []), *document["paths"][path].get("parameters", [])]:
            assert parameter.get("description"), (path, parameter["name"])
        assert operation["summary"]


def test_an_answer_has_all_of_its_fields_and_a_request_no_others(document: Any) -> None:
    schemas = document["components"]["schemas"]
    assert set(schemas["Message"]["required"]) == set(schemas["Message"]["properties"])
    assert schemas["NewMessage"]["required"] == ["recipients", "text"]
    assert schemas["NewMessage"]["additionalProperties"] is False


def test_every_status_effect_outcome_and_matching_rule_is_explained(document: Any) -> None:
    for word in (*Status, *Effect, *ReceiptOutcome, *meanings.MATCHING_RULES):
        assert f"- `{word}`: " in document["info"]["description"]


def test_every_operation_has_an_example(document: Any) -> None:
    for _, calls in reference.by_noun(document):
        for call in calls:
            head, _, rest = reference.sample(document, call).partition("\n")
            assert head.startswith(f"{call['method']} /")
            assert "{" not in head
            assert "None" not in rest


def test_the_committed_reference_is_what_the_code_makes(document: Any) -> None:
    committed = (PROJECT / "docs" / "api.md").read_text()
    assert committed == reference.markdown(document), "run: make api-docs"


def test_the_committed_page_of_statuses_is_what_the_code_makes(desk: FlaskClient) -> None:
    committed = (PROJECT / "docs" / "statuses.md").read_text()
    assert committed == pages.write_prose(desk.application, "statuses.md"), "run: make api-docs"


def test_the_page_of_statuses_has_a_row_for_every_word(desk: FlaskClient) -> None:
    page = pages.write_prose(desk.application, "statuses.md")
    for word in (*Status, *Effect, *ReceiptOutcome, *meanings.MATCHING_RULES, *meanings.STEPS):
        assert f"\n| `{word}` | " in page


def test_descriptions_are_escaped_in_the_page() -> None:
    page = reference.html("## A\n\n- `<b>` **c**\n- <i>\n\n```\n<u>\n```\n\n<p>\n\n[d](javascript:e)")
    assert re.sub(r"\s", "", page) == (
        "<h2>A</h2><ul><li><code>&lt;b&gt;</code><strong>c</strong></li><li>&lt;i&gt;</li></ul>"
        "<pre><code>&lt;u&gt;</code></pre><p>&lt;p&gt;</p><p>[d](javascript:e)</p>"
    )
    assert reference.inline("<b> `<i>`") == "&lt;b&gt; <code>&lt;i&gt;</code>"


def test_the_page_names_everything_and_needs_no_other_host(desk: FlaskClient, document: Any) -> None:
    answer = desk.get("/docs")
    page = answer.get_data(as_text=True)
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'")
    for path in document["paths"]:
        assert path in page
    for schema in document["components"]["schemas"]:
        assert f'id="schema-{schema}"' in page
    loaded = re.findall(r'(?:src|<link[^>]*href)="([^"]*)"', page)
    assert loaded == ["static/docs.css"]
    assert "<script" not in page
    assert "style=" not in page
    with desk.get(loaded[0]) as style:
        assert style.mimetype == "text/css"


def test_the_links_of_the_documentation_are_relative(desk: FlaskClient) -> None:
    page = desk.get("/docs").text
    assert 'href="static/docs.css"' in page
    assert 'href="openapi.json"' in page
    assert 'href="/' not in page.replace('href="/v1', "")
