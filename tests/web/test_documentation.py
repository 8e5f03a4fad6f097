"""The OpenAPI document, and docs/api.md and docs/statuses.md, which are made from it."""

import csv
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from receiptsvc import ids
from receiptsvc.domain import meanings
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.statuses import Effect, Status
from receiptsvc.locations import PROJECT
from receiptsvc.web.docs import api_markdown, pages, reference
from receiptsvc.web.http import auth


@pytest.fixture(scope="module")
def document(desk: FlaskClient) -> Any:
    return desk.get("/openapi.json").json


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in document["paths"].items():
        for method in ("get", "post", "delete"):
            if method in methods:
                yield path, method, methods[method]


def objects(value: object) -> Iterator[dict[str, Any]]:
    """Every object of the document, at any depth."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from objects(inner)


def references(document: Any) -> set[str]:
    return {each["$ref"] for each in objects(document) if "$ref" in each}


def test_it_is_openapi_3_1_and_every_reference_resolves(document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    for path in references(document):
        value = document
        for part in path.removeprefix("#/").split("/"):
            value = value[part]


def test_every_route_of_the_api_is_in_it_with_its_security(desk: FlaskClient, document: Any) -> None:
    documented = {(path, method): each for path, method, each in operations(document)}
    app = desk.application
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith(("documentation.", "metrics.", "ops.")):
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
        assert {"properties", "enum", "oneOf"} & set(schema), name
        for field, described in schema.get("properties", {}).items():
            assert described.get("description"), (name, field)
            assert "type" in described or {"$ref", "anyOf", "allOf"} & set(described), (name, field)
    for path, _, operation in operations(document):
        for parameter in [*operation.get("parameters", []), *document["paths"][path].get("parameters", [])]:
            assert parameter.get("description"), (path, parameter["name"])
        assert operation["summary"]
        assert operation["description"], path


def test_the_licence_is_that_of_the_project(document: Any) -> None:
    assert document["info"]["license"] == {"name": "MIT", "identifier": "MIT"}
    assert (PROJECT / "LICENSE").read_text().startswith("MIT License")


def test_every_list_of_words_has_a_name_of_its_own(document: Any) -> None:
    named = {name: schema["enum"] for name, schema in document["components"]["schemas"].items() if "enum" in schema}
    inline = [each["enum"] for each in objects(document["paths"]) if len(each.get("enum", ())) > 1]
    inline += [
        each["enum"]
        for schema in document["components"]["schemas"].values()
        for each in objects(schema.get("properties", {}))
        if isinstance(each.get("enum"), list) and len(each["enum"]) > 1
    ]
    assert inline == []
    assert named["MessageStatus"] == [status.value for status in Status]
    assert len({frozenset(words) for words in named.values()}) == len(named)
    assert [name for name in document["components"]["schemas"] if re.search(r"\d", name)] == []


def test_generators_of_clients_find_each_name_once_and_no_default_of_another_type(document: Any) -> None:
    for path, method, operation in operations(document):
        parameters = [*operation.get("parameters", []), *document["paths"][path].get("parameters", [])]
        names = [re.sub(r"\W", "", each["name"]).lower() for each in parameters]
        assert len(names) == len(set(names)), (path, method)
    for schema in objects(document):
        if "default" in schema and not isinstance(schema["default"], dict):  # that is a field with this name
            assert not references(schema), schema


def test_what_may_be_null_says_so_beside_its_name(document: Any) -> None:
    status = document["components"]["schemas"]["Transition"]["properties"]["status"]
    assert status["anyOf"] == [{"$ref": "#/components/schemas/MessageStatus"}, {"type": "null"}]
    assert status["description"]


def test_an_entry_of_a_timeline_is_told_by_its_type(document: Any) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["Conversation"]["properties"]["timeline"]["items"]["$ref"].endswith("/TimelineEntry")
    assert schemas["Person"]["properties"]["items"]["items"]["$ref"].endswith("/PersonEntry")
    for name, kinds in (("TimelineEntry", {"message", "transition", "reply"}), ("PersonEntry", {"message", "reply"})):
        discriminator = schemas[name]["discriminator"]
        assert discriminator["propertyName"] == "type"
        assert set(discriminator["mapping"]) == kinds
        assert [{"$ref": path} for path in discriminator["mapping"].values()] == schemas[name]["oneOf"]
        for kind, path in discriminator["mapping"].items():
            assert schemas[path.rpartition("/")[2]]["properties"]["type"]["enum"] == [kind]


def test_no_component_is_unused(document: Any) -> None:
    parts = document["components"]
    defined = {f"#/components/{part}/{name}" for part in ("schemas", "responses") for name in parts[part]}
    assert defined - references(document) == set()
    used = {scheme for _, _, operation in operations(document) for each in operation["security"] for scheme in each}
    assert used == set(parts["securitySchemes"])


def test_what_can_be_refused_says_how(document: Any) -> None:
    for path, method, operation in operations(document):
        refusals = {status for status in operation["responses"] if status.startswith("4")}
        assert refusals or path in {"/healthz", "/readyz"}, (path, method)  # which take nothing that could be wrong


def test_an_answer_has_all_of_its_fields_and_a_request_no_others(document: Any) -> None:
    schemas = document["components"]["schemas"]
    assert set(schemas["Message"]["required"]) == set(schemas["Message"]["properties"])
    assert schemas["NewMessage"]["required"] == ["recipients", "text"]
    assert schemas["NewMessage"]["additionalProperties"] is False


def test_every_status_effect_outcome_and_matching_rule_is_explained(document: Any) -> None:
    for word in (*Status, *Effect, *ReceiptOutcome, *meanings.MATCHING_RULES):
        assert f"- `{word}`: " in document["info"]["description"]


def test_the_words_of_a_value_are_told_with_its_field(document: Any) -> None:
    named = {"$ref": "#/components/schemas/TransitionSource"}
    told: list[dict[str, Any]] = [named, {"anyOf": [named, {"type": "null"}]}, {"type": "array", "items": named}]
    assert [reference.words(document, schema) for schema in told] == [["gateway", "ourselves"]] * 3
    others: list[dict[str, Any]] = [{}, {"$ref": "#/components/schemas/Message"}, {"enum": ["message"]}]
    assert [reference.words(document, schema) for schema in others] == [[]] * 3


def test_limits_are_told_in_words() -> None:
    told: dict[str, dict[str, Any]] = {
        "1 to 64 characters": {"minLength": 1, "maxLength": 64},
        "at most 1,000": {"minimum": 0, "maximum": 1000},
        "at least 1 element": {"minItems": 1},
        "at least 2 elements": {"minItems": 2},
        "1 to 500; default 100": {"minimum": 1, "maximum": 500, "default": 100},
        "": {"format": "date-time"},
    }
    assert [reference.bounds(schema) for schema in told.values()] == list(told)


def test_an_example_agrees_with_what_is_said_of_it(document: Any) -> None:
    calls = {call["operationId"]: call for _, calls in reference.by_noun(document) for call in calls}
    answers = {name: reference.sample_answer(document, call)[1] for name, call in calls.items()}
    [accepted] = answers["send_messages"]["messages"]
    assert (accepted["status"], accepted["transactionID"]) == ("accepted", None)
    assert set(accepted) == set(document["components"]["schemas"]["Message"]["required"])
    [group] = answers["read_breakdown"]["items"]
    assert group["callingCode"]
    assert {group[name] for name in ("originator", "prefix", "providerStatusId", "reason")} == {None}
    unmatched = answers["list_receipts"]["items"][0]
    assert (unmatched["outcome"], unmatched["messageId"]) == ("unmatched", None)
    for table in ("messages", "transitions"):
        header, row = csv.reader(answers[f"export_{table}_csv"].splitlines())
        line = json.loads(answers[f"export_{table}_jsonl"])
        assert list(line) == header
        assert [{None: "", False: "false"}.get(value, str(value)) for value in line.values()] == row
    for message_id in re.findall(r"\bmsg_\w*", json.dumps(answers)):
        assert re.fullmatch(ids.pattern("msg"), message_id)


def test_a_list_that_may_be_null_says_so() -> None:
    listed: dict[str, Any] = {"type": ["array", "null"], "items": {"type": "string"}}
    assert reference.kind(listed) == "list of string or null"
    assert reference.kind({**listed, "type": "array"}) == "list of string"


def test_every_operation_has_an_example(document: Any) -> None:
    for _, calls in reference.by_noun(document):
        for call in calls:
            head, _, rest = api_markdown.sample(document, call).partition("\n")
            assert head.startswith(f"{call['method']} /")
            assert "{" not in head
            assert "None" not in rest


def test_the_committed_reference_is_what_the_code_makes(document: Any) -> None:
    committed = (PROJECT / "docs" / "api.md").read_text()
    assert committed == api_markdown.write(document), "run: make api-docs"


def test_the_committed_page_of_statuses_is_what_the_code_makes(desk: FlaskClient) -> None:
    committed = (PROJECT / "docs" / "statuses.md").read_text()
    assert committed == pages.write_prose(desk.application, "statuses.md"), "run: make api-docs"


def test_the_page_of_statuses_has_a_row_for_every_word(desk: FlaskClient) -> None:
    page = pages.write_prose(desk.application, "statuses.md")
    for word in (*Status, *Effect, *ReceiptOutcome, *meanings.MATCHING_RULES, *meanings.STEPS):
        assert f"\n| `{word}` | " in page
