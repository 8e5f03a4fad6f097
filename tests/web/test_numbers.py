"""The API takes a number in any writing without letters, and finds it in any; see tests/domain/numbers_cases.toml."""

import re
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from receiptsvc.domain import countries, numbers
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


def test_a_number_as_written_inside_a_country_leads_to_those_that_end_so(
    client: FlaskClient, database: Database
) -> None:
    rows.accept(database, rows.message("447700900001"), rows.message("917700900001"), rows.message("447700900002"))

    def ask(method: str, path: str, status: int, **body: str) -> Any:
        answer: Any = client.open(f"/v1/{path}", method=method, json=body or None)
        assert answer.status_code == status, answer.json
        return answer.json

    for written in ("07700900001", "07700 900 001", "(07700) 900-001"):
        [hit] = ask("GET", f"search?q={written}", 200)["items"]
        assert (hit["as"], hit["query"]["body"]) == ("nationalNumber", {"recipientEnds": "7700900001"})
        assert {item["recipient"] for item in hit["messages"]} == {"447700900001", "917700900001"}
        by_post = ask("POST", "recipients/query", 200, number=written)
        for answer in (ask("GET", f"recipients/{quote(written)}", 200), by_post):
            assert (answer["items"], sorted(answer["endsAlike"])) == ([], ["447700900001", "917700900001"])
    assert ask("GET", "recipients/447700900001", 200)["endsAlike"] == []
    ask("GET", "recipients/07700900009", 404)
    for path in ("messages/query", "messages/cancel", "suppressions"):
        [[fault]] = ask("POST", path, 422, recipient="07700 900001")["errors"].values()
        assert "written as inside a country" in fault
        assert "900001" not in fault


DECIMAL, LETTERS, BEHIND = "written as a decimal", "letters or an extension", "a + stands behind its beginning"
ZERO, ABROAD = "a 0 stands where the country code belongs", "of another country needs a + or 00"
POL, NLD, ITA, DEU, GBR = "POL", "NLD", "ITA", "DEU", "GBR"

# Each kind of writing that is refused: the writing, its country, and the word that says why.
REFUSED: dict[str, list[tuple[str, str | None, str]]] = {
    "a decimal, as a spreadsheet writes a number": [
        ("7700900123.0", GBR, DECIMAL),
        ("447700900123.0", None, DECIMAL),
        ("+447700900123.00", None, DECIMAL),
        ("447700900123,00", None, DECIMAL),
        ("612345678.0", NLD, DECIMAL),
        ("694123456.000", POL, DECIMAL),
        ("3331234567,0", ITA, DECIMAL),
        ("15112345678.000", DEU, DECIMAL),
        ("447,700,900,123.00", None, DECIMAL),
        ("447\u202f700\u202f900\u202f123,00", None, DECIMAL),
        ("447'700'900'123.00", None, DECIMAL),
        ("\u0664\u0664\u0667\u0667\u0660\u0660\u0669\u0660\u0660\u0661\u066b\u0660", None, DECIMAL),
        ("\u200e7700900123.0", GBR, DECIMAL),
    ],
    "an exponent": [
        ("4.477E+11", None, DECIMAL),
        ("4,47700900123E+11", None, DECIMAL),
        ("4.47700900123e11", None, DECIMAL),
        ("447E9", None, DECIMAL),
        ("+4.477 E+11", None, DECIMAL),
    ],
    "a + behind the beginning": [
        ("0+447700900123", None, BEHIND),
        ("0 (+44) 7700 900123", GBR, BEHIND),
        ("00+447700900123", None, BEHIND),
        ("44+7700900123", None, BEHIND),
        ("++447700900123", None, BEHIND),
        ("+44+447700900123", None, BEHIND),
        ("447700900123+", None, BEHIND),
    ],
    "no country code behind + or 00": [
        ("+07700900123", None, ZERO),
        ("+07700900123", GBR, ZERO),
        ("+0 7700 900123", GBR, ZERO),
        ("0007700900123", GBR, ZERO),
        ("+00447700900123", None, ZERO),
        ("+0447700900123", None, ZERO),
    ],
    "letters, an extension": [
        ("447700900123x2", None, LETTERS),
        ("+44 7700 900123 ext. 2", None, LETTERS),
        ("tel:+447700900123", None, LETTERS),
        ("07700 FLOWERS", GBR, LETTERS),
        ("Mobile: 07700 900123", GBR, LETTERS),
        ("447700900123 p5", None, LETTERS),
        ("O7700900123", GBR, LETTERS),
    ],
    "what no number has": [
        ("447700900123#2", None, "U+0023"),
        ("447700900123;2", None, "U+003B"),
        ("447700900123,447700900124", None, "U+002C"),
        ("'447700900123", None, "U+0027"),
        ('="447700900123"', None, "U+003D"),
        ("4\ufe0f\u20e347700900123", None, "U+20E3"),
        ("\u00b2447700900123", None, "U+00B2"),
    ],
    "with the country's code or without it": [
        ("390612345", ITA, "may be the country code or not"),  # +39 06 12345, or +39 390 612345
        ("4915123456789", DEU, "may be the country code or not"),  # +49 1512 3456789, or +49 4915 123456789
        ("62812345678", "IDN", "may be the country code or not"),
        ("468123456", "SWE", "may be the country code or not"),
        ("5540041234", "BRA", "may be the country code or not"),
    ],
    "too much": [
        ("447700900123" * 4, None, "more than 40 characters"),
        ("\u0664" * 100_000, GBR, "more than 40 characters"),
        ("447700900123 / 447700900124 / 447700900125", None, "more than 40 characters"),
    ],
    "another country's, without + or 00": [
        ("33612345678", GBR, ABROAD),
        ("49151123456780", GBR, ABROAD),
        ("447700900123", POL, ABROAD),
        ("12125550123", POL, ABROAD),
        ("447911123456", "USA", ABROAD),
        ("011447700900123", "USA", ABROAD),
    ],
}
# countryIsoCode, a writing, and the number that it is: local or with the code, of every country with that code.
OF_THE_COUNTRY = [
    (GBR, "07700900123", "447700900123"),
    (GBR, "7700900123", "447700900123"),
    (GBR, "447700900123", "447700900123"),
    (GBR, "4407700900123", "447700900123"),
    (GBR, "07797712345", "447797712345"),  # Jersey's
    (GBR, "441534123456", "441534123456"),
    ("JEY", "07700900123", "447700900123"),
    (GBR, "+33 6 12 34 56 78", "33612345678"),  # says itself that it is another's
    (GBR, "0033612345678", "33612345678"),
    ("CAN", "2125550123", "12125550123"),
    ("KAZ", "89161234567", "79161234567"),
    ("VAT", "0669812345", "390669812345"),
    (ITA, "3931234567", "393931234567"),  # a mobile number that begins as its country's code does
    (ITA, "393331234567", "393331234567"),
    (POL, "48694123456", "48694123456"),
    (DEU, "4930123456", "4930123456"),
]


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refusal_says_what_is_wrong_with_a_writing_and_not_the_number(desk: FlaskClient, kind: str) -> None:
    for written, country, word in REFUSED[kind]:
        message = {"recipients": [written], "text": "Hello", **({"countryIsoCode": country} if country else {})}
        answer: Any = desk.post("/v1/messages?dryRun=true", json={"messages": [message]})
        assert answer.status_code == 422, written
        [(path, [said])] = answer.json["errors"].items()
        assert path == "messages[0].recipients[0]"
        assert word in said, (written, said)
        assert said.startswith("Is no possible phone number"), said
        assert "900123" not in said, said
        assert word == ABROAD or "+447123123456" in said, "the right form is shown"
        assert numbers.normalise(written, countries.alpha_2(country or "")) is None or word == LETTERS, written


@pytest.mark.parametrize(("country", "written", "number"), OF_THE_COUNTRY)
def test_with_a_country_a_number_is_of_its_calling_code(
    desk: FlaskClient, country: str, written: str, number: str
) -> None:
    assert recipient_of(desk, written, countryIsoCode=country) == number


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
