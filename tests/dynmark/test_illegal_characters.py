"""An answer with a character that its form forbids: whole items are read, every other one is unclear, never guessed."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from receiptsvc.domain.messages import SendOutcome
from receiptsvc.dynmark.outbound import answers
from tests.dynmark import calls, test_rest, wire
from tests.dynmark.calls import ALICE, BOB, CAROL, LAUGHS, collection, item, message

TAKEN, UNCLEAR, REFUSED = SendOutcome.TAKEN, SendOutcome.UNCLEAR, SendOutcome.REFUSED
ACCOUNT_REFUSED, SUSPECT_REFUSED = SendOutcome.ACCOUNT_REFUSED, SendOutcome.SUSPECT_REFUSED
ALL = (ALICE, BOB, CAROL)


def soap(body: bytes, *recipients: str, **more: Any) -> list[SendOutcome]:
    results, _ = calls.send(wire.answer(body), *map(message, recipients or ALL), **more)
    return [result.outcome for result in results]


def rest(body: bytes, *recipients: str, **more: Any) -> list[SendOutcome]:
    return test_rest.outcomes(wire.answer(body), *map(message, recipients or ALL), **more)


def xml(*items: str | bytes, declared: bytes = b"") -> bytes:
    whole = collection("<here/>").encode()
    written = [each.encode() if isinstance(each, str) else each for each in items]
    return declared + whole.replace(b"<here/>", b"".join(written))


def says(detail: bytes, recipient: str = BOB) -> bytes:
    """Bob's item with these bytes in its detail."""
    return item(recipient, returnDetail="@@").encode().replace(b"@@", detail)


# Kind: one illegal character in an answer makes only its own item unclear.
XML_ILLEGAL = {
    "a raw control character": b"a\x01b",
    "a raw NUL": b"a\x00b",
    "a form feed": b"a\x0cb",
    "a control character, escaped (.NET, Exchange)": b"a&#x1;b",
    "the same, decimal": b"a&#11;b",
    "half a surrogate, escaped": b"&#xD83D;",
    "half a surrogate, raw": b"\xed\xa0\xbd",
    "a noncharacter": "\uffff".encode(),
    "Latin-1 in UTF-8": "Müller".encode("latin-1"),
    "UTF-8 cut in a character": "€".encode()[:2],
    "an overlong form": b"\xc0\xaf",
    "an ampersand": b"Marks & Spencer",
    "an entity of HTML": b"caf&eacute;",
    "a mark": b"a < b",
    "the end of CDATA": b"]]>",
}


@pytest.mark.parametrize("detail", XML_ILLEGAL.values(), ids=XML_ILLEGAL)
def test_soap_reads_the_whole_items_beside_one_with_an_illegal_character(detail: bytes) -> None:
    assert soap(xml(item(ALICE), says(detail), item(CAROL, returnCode="42"))) == [TAKEN, UNCLEAR, REFUSED]


def test_soap_keeps_what_the_whole_items_say_and_says_why_the_other_is_unclear() -> None:
    body = xml(item(CAROL, transaction="13"), says(b"\x01"), item(ALICE, transaction="12"))
    results, _ = calls.send(wire.answer(body), *map(message, ALL))
    assert [result.transaction_id for result in results] == ["12", None, "13"]
    assert results[1].description == answers.BROKEN


XML_FORMS: dict[str, Callable[[bytes], bytes]] = {
    "declared as UTF-8": lambda body: b'<?xml version="1.0" encoding="utf-8"?>' + body,
    "behind a byte order mark": lambda body: b'\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8"?>\r\n' + body,
    "behind blanks": lambda body: b"\r\n " + body,
    "with prefixes": lambda body: body.replace(b"MessageResult>", b"n:MessageResult>").replace(
        b"<soap:Body>", b'<soap:Body xmlns:n="urn:n">'
    ),
    "in windows-1252": lambda body: b'<?xml version="1.0" encoding="windows-1252"?>' + body,
    "with attributes": lambda body: body.replace(b"<MessageResult>", b'<MessageResult a = "1" >'),
    "in other capitals": lambda body: body.replace(b"MessageResult>", b"messageresult>"),
}


@pytest.mark.parametrize("form", XML_FORMS.values(), ids=XML_FORMS)
def test_soap_reads_whole_items_in_every_form(form: Callable[[bytes], bytes]) -> None:
    assert soap(form(xml(item(ALICE), says(b"\x01"), says(b"caf\xc3\xa9", CAROL)))) == [TAKEN, UNCLEAR, TAKEN]


# Kind: where the whole items do not add up, or what is around them is not whole, all are unclear.
BAD = says(b"\x01")
XML_UNCLEAR = {
    "one is missing": xml(item(ALICE), BAD),
    "one too many": xml(item(ALICE), BAD, item(CAROL), item(CAROL)),
    "a stranger": xml(item(ALICE), BAD, item("447700900009")),
    "named twice": xml(item(ALICE), BAD, item(ALICE)),
    "one names two": xml(item(ALICE, BOB), BAD, item("447700900009")),
    "cut": xml(item(ALICE), BAD, item(CAROL))[:-20],
    "without an end tag": xml(item(ALICE), BAD.replace(b"</MessageResult>", b""), item(CAROL)),
    "one inside another": xml(item(ALICE), BAD.replace(b"<transactionID>", item(CAROL).encode() + b"<transactionID>")),
    "one in a comment": xml(item(ALICE), BAD, b"<!--", item(CAROL), b"-->"),
    "one in CDATA": xml(item(ALICE), BAD, b"<![CDATA[", item(CAROL), b"]]>"),
    "illegal around them": xml(item(ALICE), BAD, item(CAROL), b"\x01"),
    "a DTD": xml(item(ALICE), BAD, item(CAROL), declared=b"<!DOCTYPE x>"),
    "entities of a DTD": xml(item(ALICE), says(b"&j;\x01"), item(CAROL), declared=LAUGHS.encode()),
    "a fault beside them": xml(item(ALICE), BAD, item(CAROL)).replace(b"<soap:Body>", b"<soap:Body><soap:Fault/>"),
    "in a form where bytes mean more": xml(
        item(ALICE), BAD, item(CAROL), declared=b'<?xml version="1.0" encoding="iso-2022-jp"?>'
    ),
    "no envelope": b"<a>" + item(ALICE).encode() + BAD + item(CAROL).encode() + b"</a>",
    "tags without end": b"<MessageResult>" * 100_000,
    "a tag without end": b"<MessageResult " * 100_000,
}


@pytest.mark.parametrize("body", XML_UNCLEAR.values(), ids=XML_UNCLEAR)
def test_soap_reads_none_where_they_do_not_add_up(body: bytes) -> None:
    assert soap(body) == [UNCLEAR] * 3


def test_an_item_that_cannot_be_read_may_have_been_taken_whatever_the_others_say() -> None:
    stop = {"RETURN_CODES": '{"42": "stop"}'}
    refused = [item(each, returnCode="42", returnDescription="Unable to logon") for each in (ALICE, CAROL)]
    body = xml(refused[0], BAD, refused[1])
    assert soap(body, **stop) == [ACCOUNT_REFUSED, UNCLEAR, ACCOUNT_REFUSED]
    assert soap(body) == [SUSPECT_REFUSED, UNCLEAR, SUSPECT_REFUSED]
    assert soap(xml(BAD), BOB) == [UNCLEAR]


# The same over REST.
WHOLE = [json.dumps({"to": each, "successful": True}).encode() for each in ALL]
JSON_ILLEGAL = {
    "a raw line break": b"a\nb",
    "a raw tab": b"a\tb",
    "a raw NUL": b"a\x00b",
    "another control character": b"a\x1fb",
    "Latin-1 in UTF-8": "Müller".encode("latin-1"),
    "UTF-8 cut in a character": "€".encode()[:2],
    "half a surrogate, raw": b"\xed\xa0\xbd",
}


def said(detail: bytes, recipient: str = BOB) -> bytes:
    return b'{"to": "%s", "successful": true, "note": "%s"}' % (recipient.encode(), detail)


def listed(*items: bytes) -> bytes:
    return b"[" + b",".join(items) + b"]"


@pytest.mark.parametrize("detail", JSON_ILLEGAL.values(), ids=JSON_ILLEGAL)
def test_rest_reads_the_whole_items_beside_one_with_an_illegal_character(detail: bytes) -> None:
    assert rest(listed(WHOLE[0], said(detail), said(rb"a\nb", CAROL))) == [TAKEN, UNCLEAR, TAKEN]


JSON_UNCLEAR = {
    "one is missing": listed(WHOLE[0], said(b"\n")),
    "one too many": listed(*WHOLE, said(b"\n")),
    "a stranger": listed(WHOLE[0], said(b"\n"), said(b"a", "447700900009")),
    "named twice": listed(WHOLE[0], said(b"\n"), WHOLE[0]),
    "cut": listed(WHOLE[0], said(b"\n"), WHOLE[2])[:-1],
    "illegal around them": listed(WHOLE[0], said(b"\n"), WHOLE[2], b"\x01"),
    "a quote within a text": listed(WHOLE[0], said(b'\n"'), WHOLE[2]),
    "an escape that JSON lacks": listed(WHOLE[0], said(rb"\x41"), WHOLE[2]),
    "items that name nobody": listed(b"{}", b"{}", b'{"note": "\n"}'),
}


@pytest.mark.parametrize("body", JSON_UNCLEAR.values(), ids=JSON_UNCLEAR)
def test_rest_reads_none_where_they_do_not_add_up(body: bytes) -> None:
    assert rest(body) == [UNCLEAR] * 3
