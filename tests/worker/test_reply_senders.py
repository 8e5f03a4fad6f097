"""A reply is linked to the person we wrote to, in whatever form a handset or an operator writes the number."""

from urllib.parse import urlencode

import pytest
from sqlalchemy import select

from receiptsvc.domain.inbox import Channel
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Reply
from receiptsvc.worker.receipt_processor import process
from tests.support.rows import accept, keep, message, seconds
from tests.support.work import RULES

ALICE = "447700900123"

# A kind of writing → the writing, and the number to which we wrote.
SENDERS: dict[str, list[tuple[str, str]]] = {
    "national": [
        ("07700900123", ALICE),
        ("07700 900 123", ALICE),
        ("(07700) 900-123", ALICE),
        ("7700900123", ALICE),
        ("0151 12345678", "4915112345678"),
        ("8 (916) 123-45-67", "79161234567"),
        ("(212) 555-0123", "12125550123"),
        ("694123456", "48694123456"),
    ],
    "international": [
        ("+447700900123", ALICE),
        ("00447700900123", ALICE),
        (" 447700900123", ALICE),  # a plus that was not escaped
        ("+44 (0)7700 900123", ALICE),
        ("44-7700-900-123", ALICE),
        ("tel:+447700900123", ALICE),
        ("\uff0b\uff14\uff14\uff17\uff17\uff10\uff10\uff19\uff10\uff10\uff11\uff12\uff13", ALICE),
    ],
    "as it is dialled abroad": [
        ("011447700900123", ALICE),  # North America
        ("0011 44 7700 900123", ALICE),  # Australia
        ("010447700900123", ALICE),  # Japan
        ("009447700900123", ALICE),
        ("001447700900123", ALICE),
        ("0114915112345678", "4915112345678"),
    ],
    "a plus or zeros too many": [
        ("+07700900123", ALICE),
        ("0447700900123", ALICE),
        ("+0447700900123", ALICE),
        ("+00447700900123", ALICE),
        ("000447700900123", ALICE),
        ("+4407700900123", ALICE),
        ("032491234567", "32491234567"),
    ],
    "an address of a multimedia message or of SIP": [
        ("+447700900123/TYPE=PLMN", ALICE),
        ("447700900123/type=plmn", ALICE),
        ("07700900123/TYPE=PLMN", ALICE),
        ("+447700900123@mms.example", ALICE),
        ("sip:+447700900123@ims.example", ALICE),
        ("sips:447700900123@ims.example", ALICE),
    ],
    "as a country once had it": [
        ("5491123456789", "541123456789"),
        ("541123456789", "5491123456789"),
        ("+54 9 11 2345-6789", "541123456789"),
        ("5215512345678", "525512345678"),
        ("525512345678", "5215512345678"),
        ("551198765432", "5511998765432"),
        ("5511998765432", "551198765432"),
    ],
}
STRANGERS: dict[str, list[tuple[str, str]]] = {
    "another number": [("07700900124", ALICE), ("447700900124", ALICE), ("+4477009001230", ALICE), ("900123", ALICE)],
    "another country": [
        ("497700900123", ALICE),
        ("+497700900123", ALICE),
        ("+7700900123", ALICE),
        ("551138765432", "5511938765431"),
    ],
    "another kind of line": [("551123456789", "5511923456789"), ("5411523456789", "541123456789")],
    "a prefix that none dials": [("1447700900123", ALICE), ("99447700900123", ALICE), ("+44447700900123", ALICE)],
    "a name": [("ALICE", ALICE), ("447700900123 ext 2", ALICE), ("44770090012X", ALICE), ("a447700900123@b", ALICE)],
    "hidden digits": [("4477009001**", ALICE), ("XXXXXXXX0123", ALICE), ("...900123", ALICE)],
    "a decimal": [("447700900123.0", ALICE), ("4.47700900123E+11", ALICE)],
}


def link(database: Database, written: str, *people: str) -> Reply:
    accept(database, *(message(person, originator="60030") for person in people))
    said = {"msgid": "1", "sender": written, "recipient": "60030", "content": "Yes"}
    keep(database, urlencode(said), channel=Channel.INBOUND)
    assert process(database, RULES, seconds(10), 100) == 1
    with database.reading() as session:
        return session.scalars(select(Reply)).one()


def each(kinds: dict[str, list[tuple[str, str]]]) -> pytest.MarkDecorator:
    cases = [(kind, written, person) for kind, pairs in kinds.items() for written, person in pairs]
    return pytest.mark.parametrize(("kind", "written", "person"), cases)


@pytest.mark.on_postgresql
@each(SENDERS)
def test_it_is_the_person_we_wrote_to(database: Database, kind: str, written: str, person: str) -> None:
    row = link(database, written, person, "447700900999", "12125550100")
    assert (row.sender, row.message_id is not None) == (person, True), kind


@pytest.mark.on_postgresql
@each(STRANGERS)
def test_it_is_somebody_else(database: Database, kind: str, written: str, person: str) -> None:
    row = link(database, written, person)
    assert row.sender != person, kind
    assert row.message_id is None


@pytest.mark.parametrize(
    ("written", "people"),
    [
        ("07700900123", ["447700900123", "497700900123"]),
        ("0447700900123", ["447700900123", "49447700900123"]),
        ("7700900123", ["447700900123", "917700900123"]),
    ],
)
def test_what_fits_two_people_is_neither(database: Database, written: str, people: list[str]) -> None:
    row = link(database, written, *people)
    assert row.message_id is None


def test_who_wrote_is_the_number_itself_where_we_wrote_to_that_too(database: Database) -> None:
    row = link(database, "5491123456789", "541123456789", "5491123456789")
    assert (row.sender, row.message_id is not None) == ("5491123456789", True)


def test_a_message_accepted_after_a_reply_came_is_not_answered_by_it(database: Database) -> None:
    accept(database, message(ALICE, originator="60030"), now=seconds(120))
    row = link(database, ALICE)
    assert row.message_id is None
