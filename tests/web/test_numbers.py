"""The API takes a number in any writing of its pattern, and finds it in any writing; see tests/domain/numbers_cases.toml."""

import re
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from receiptsvc.domain import numbers
from receiptsvc.store.core.db import Database
from receiptsvc.web.schemas.submissions import ORIGINATOR
from tests.support import rows, stories
from tests.support.numbers import ALL, ALWAYS, DOUBTFUL, HINTED, NEVER, NUMBERS, ORIGINATORS, STRANGE, Case

pytestmark = pytest.mark.on_postgresql


def recipient_of(client: FlaskClient, written: str, **more: str) -> str | None:
    """The recipient that a message would have; None if it is refused."""
    body = {"messages": [{"recipients": [written], "text": "Hello", **more}]}
    answer: Any = client.post("/v1/messages?dryRun=true", json=body)
    if answer.status_code == 422:
        assert list(answer.json["errors"]) == ["messages[0].recipients[0]"]
        return None
    [item] = answer.json["messages"]
    return str(item["recipient"])


def test_a_message_goes_to_the_number_that_is_written(desk: FlaskClient) -> None:
    for case in ALWAYS:
        assert recipient_of(desk, case.written) == case.number, case
        assert recipient_of(desk, case.written, countryIsoCode=case.country) == case.number, case
    for case in [*HINTED, *DOUBTFUL]:
        assert recipient_of(desk, case.written, countryIsoCode=case.country) == case.number, case
        assert recipient_of(desk, case.written) in {None, numbers.digits(case.written)}, case
    for case in NEVER:
        assert recipient_of(desk, case.written) != case.number, case
        assert recipient_of(desk, case.written, countryIsoCode=case.country) != case.number, case
    for case in STRANGE:
        assert recipient_of(desk, case.written) is None, case


@pytest.fixture
def known(client: FlaskClient, database: Database) -> FlaskClient:
    """A caller where a message went to each number, and a reply came from it."""
    rows.accept(database, *map(rows.message, NUMBERS))
    for number in NUMBERS:
        stories.reply(database, "a", rows.seconds(1), sender=number)
    return client


def found(client: FlaskClient, path: str, case: Case) -> set[str]:
    """The numbers in the answer; `{}` in the path stands for the writing."""
    answer: Any = client.get(path.format(quote(case.written, safe="")))
    assert answer.status_code in {200, 404, 422}, case
    hits = [hit for hit in answer.json.get("items", ()) if hit.get("as", "recipient") == "recipient"]
    entries = [entry for hit in hits for entry in hit.get("messages", [hit])]
    return {str(entry.get("sender") or entry.get("recipient")) for entry in entries}


@pytest.mark.parametrize(
    ("path", "is_free_text"),
    [
        ("/v1/search?q={}", True),
        ("/v1/recipients/{}", True),
        ("/v1/messages?recipient={}", False),
        ("/v1/inbound?sender={}", False),
    ],
)
def test_a_person_is_found_by_every_writing_that_needs_no_hint(
    known: FlaskClient, path: str, is_free_text: bool
) -> None:
    read = {*ALWAYS, *STRANGE} if is_free_text else {*ALWAYS}
    for case in ALL:
        if path.endswith("/{}") and not case.written.strip("+. "):
            continue  # no path of that kind
        assert (case.number in found(known, path, case)) is (case in read), (path, case)


def test_a_suppression_in_any_writing_stops_messages_to_every_other(client: FlaskClient) -> None:
    for case in ALWAYS:
        made: Any = client.post("/v1/suppressions", json={"recipient": case.written})
        assert (made.status_code, made.json["recipient"]) in {(201, case.number), (200, case.number)}, case
    for case in [*ALWAYS, *HINTED, *DOUBTFUL]:
        message = {"recipients": [case.written], "text": "Hello", "countryIsoCode": case.country}
        assert client.post("/v1/messages", json={"messages": [message]}).status_code == 422, case
    for case in [*HINTED, *DOUBTFUL, *NEVER, *STRANGE]:
        made = client.post("/v1/suppressions", json={"recipient": case.written})
        assert made.status_code == 422 or made.json["recipient"] != case.number, case


def test_an_originator_is_suppressed_in_any_writing(client: FlaskClient) -> None:
    for number, case in enumerate(ORIGINATORS):
        if not (re.match(ORIGINATOR, case.written) and re.match(ORIGINATOR, case.originator)):
            continue  # not a writing that the API takes
        recipient = str(447700900000 + number)
        client.post("/v1/suppressions", json={"recipient": recipient, "originator": case.written})
        message = {"recipients": [recipient], "text": "Hello", "originator": case.originator}
        answer = client.post("/v1/messages", json={"messages": [message]})
        assert answer.status_code == (422 if case.is_same else 202), case
