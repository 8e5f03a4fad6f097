"""What the gateway says of a number is read in any writing of it; see tests/domain/numbers_cases.toml."""

from dataclasses import replace
from urllib.parse import urlencode
from uuid import UUID

import pytest
from sqlalchemy import select, update

from receiptsvc.domain import numbers
from receiptsvc.domain.correlation import BY_CLIENT_REF, BY_TOKEN, BY_TRANSACTION
from receiptsvc.domain.inbox import Channel
from receiptsvc.domain.messages import Origin
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message, Reply, Suppression
from receiptsvc.store.inbound.replies import ReplyRules
from receiptsvc.worker.receipt_batch import ReceiptRules
from receiptsvc.worker.receipt_processor import process
from tests.support.numbers import ALL, ALWAYS, DOUBTFUL, HINTED, NUMBERS, ORIGINATORS, STRANGE
from tests.support.rows import T0, accept, keep, message, read_inbox, seconds
from tests.support.work import RULES, assert_sound, outcomes, rules, said, work_off

SAME = {*ALWAYS, *STRANGE, *HINTED, *DOUBTFUL}
# An operator may put a plus before what is dialled; from a person who gives us a number, that is a mistake.
SAME_SENDER = SAME - {*DOUBTFUL} | {case for case in ALL if case.written.startswith("+0")}
OPT_OUTS = replace(RULES, replies=ReplyRules(opt_out_words=frozenset({"stop"})), suppresses_opt_outs=True)


def reply(database: Database, key: int, *, sender: str, recipient: str, content: str = "STOP") -> UUID:
    said = {"msgid": str(key), "sender": sender, "recipient": recipient, "content": content}
    return keep(database, urlencode(said), channel=Channel.INBOUND)


def process_all(database: Database, rules: ReceiptRules = RULES) -> None:
    while process(database, rules, seconds(10), 1000):
        pass


def stored_replies(database: Database) -> dict[str | None, Reply]:
    """The replies by msgid."""
    with database.reading() as session:
        return {row.msgid: row for row in session.scalars(select(Reply))}


@pytest.mark.on_postgresql
def test_a_receipt_is_about_its_recipient_in_any_writing(database: Database) -> None:
    made = [message(case.number, client_ref=f"ref-{key}") for key, case in enumerate(ALL)]
    accept(database, *made)
    for key, one in enumerate(made):
        keep(database, said("Message+sent", tx=str(key + 1), to=None), message_id=one.id)
    work_off(database)
    with database.transaction() as session:
        session.execute(update(Message).values(offered_at=T0))
    kept = []
    for key, (case, one) in enumerate(zip(ALL, made, strict=True)):
        kept.append(keep(database, said(to=case.written), message_id=one.id))
        kept.append(keep(database, said("Expired", tx=str(key + 1), to=case.written)))
        kept.append(keep(database, said("Rejected", ref=f"ref-{key}", to=case.written)))
    work_off(database)
    found = outcomes(database, kept)
    for key, (case, one) in enumerate(zip(ALL, made, strict=True)):
        is_same = case in SAME
        assert rules(database, one.id) == [BY_TOKEN, BY_TOKEN, BY_TRANSACTION, BY_CLIENT_REF][: 4 if is_same else 1], (
            case
        )
        if not is_same:
            assert found[3 * key : 3 * key + 3] == ["quarantined", "unmatched", "unmatched"], case
    assert_sound(database)


def test_a_reply_belongs_to_the_last_message_to_its_sender_in_any_writing(database: Database) -> None:
    accept(database, *(message(number, originator="60030") for number in NUMBERS))
    made = [message(number, originator="60030") for number in NUMBERS]
    accept(database, *made, now=seconds(1))
    last = {one.recipient: one.id for one in made}
    for key, case in enumerate(ALL):
        reply(database, key, sender=case.written, recipient="+60030")
    process_all(database)
    stored = stored_replies(database)
    for key, case in enumerate(ALL):
        row = stored[str(key)]
        assert (row.sender == case.number) is (case in SAME_SENDER), case
        assert row.message_id == (last[case.number] if case in SAME_SENDER else None), case
    assert_sound(database)


@pytest.mark.on_postgresql
def test_the_sender_of_a_reply_without_a_message_is_stored_as_its_number_or_as_itself(database: Database) -> None:
    for key, case in enumerate(ALL):
        reply(database, key, sender=case.written, recipient="60030")
    process_all(database)
    stored = stored_replies(database)
    for key, case in enumerate(ALL):
        row = stored[str(key)]
        assert row.message_id is None
        assert row.sender == numbers.fold(case.written)
        assert (row.sender == case.number) is (case in ALWAYS or case in STRANGE), case


def test_a_national_writing_that_fits_two_people_is_nobodys(database: Database) -> None:
    accept(database, message("447700900001"), message("497700900001"))
    reply(database, 1, sender="07700900001", recipient="60030")
    reply(database, 2, sender="497700900001", recipient="60030")
    process_all(database, OPT_OUTS)
    vague, exact = stored_replies(database)["1"], stored_replies(database)["2"]
    assert (vague.sender, vague.message_id) == ("07700900001", None)
    assert exact.message_id is not None


@pytest.mark.on_postgresql
def test_a_reply_answers_the_originator_that_it_was_sent_to(database: Database) -> None:
    made = [message(str(447700900000 + key), originator=case.originator) for key, case in enumerate(ORIGINATORS)]
    accept(database, *made)
    for key, (case, one) in enumerate(zip(ORIGINATORS, made, strict=True)):
        reply(database, key, sender=one.recipient, recipient=case.written)
    process_all(database)
    stored = stored_replies(database)
    for key, (case, one) in enumerate(zip(ORIGINATORS, made, strict=True)):
        assert (stored[str(key)].message_id == one.id) is case.is_same, case


@pytest.mark.on_postgresql
def test_an_opt_out_in_any_writing_suppresses_its_sender_however_old_the_message(database: Database) -> None:
    accept(database, *(message(number, originator="old") for number in NUMBERS), now=seconds(-90 * 86_400))
    for key, case in enumerate(ALL):
        reply(database, key, sender=case.written, recipient=f"+{60_000 + key}")
    process_all(database, OPT_OUTS)
    with database.reading() as session:
        suppressed = {(row.recipient, row.originator) for row in session.scalars(select(Suppression))}
    for key, case in enumerate(ALL):
        assert ((case.number, str(60_000 + key)) in suppressed) is (case in SAME_SENDER), case
    assert_sound(database)


@pytest.mark.on_postgresql
def test_an_opt_out_from_any_writing_of_an_originator_suppresses_it(database: Database) -> None:
    for key, case in enumerate(ORIGINATORS):
        reply(database, key, sender=str(447700900000 + key), recipient=case.written)
    process_all(database, OPT_OUTS)
    with database.reading() as session:
        suppressed = {(row.recipient, row.originator) for row in session.scalars(select(Suppression))}
    for key, case in enumerate(ORIGINATORS):
        pair = (str(447700900000 + key), numbers.fold_originator(case.originator))
        assert (pair in suppressed) is case.is_same, case


@pytest.mark.on_postgresql
def test_a_message_of_another_system_is_adopted_under_its_number(database: Database) -> None:
    for key, case in enumerate(ALL):
        keep(database, said(tx=str(key + 1), to=case.written))
    work_off(database, 1000, adopt_after=10)
    with database.reading() as session:
        query = select(Message.transaction_id, Message.recipient).where(Message.origin == Origin.EXTERNAL)
        adopted = {row.transaction_id: row.recipient for row in session.execute(query)}
    for key, case in enumerate(ALL):
        recipient = adopted.get(str(key + 1))
        assert recipient == numbers.read(case.written), case
        assert (recipient == case.number) is (case in ALWAYS or case in STRANGE), case
    assert_sound(database)


@pytest.mark.on_postgresql
def test_a_late_reply_joins_the_conversation_of_its_sender_and_originator_in_any_writing(database: Database) -> None:
    made = message(NUMBERS[0], originator="+447740101097")
    accept(database, made, now=seconds(-90 * 86_400))
    reply(database, 1, sender="+44 (7700) 900-001", recipient="44 7740 101097")
    process_all(database)
    row = stored_replies(database)["1"]
    assert (row.message_id, row.conversation_id) == (None, made.conversation_id)


REWRITTEN = [  # our recipient, and what a receipt at its signed address says
    ("5491112345678", "541112345678"),
    ("525512345678", "5215512345678"),
    ("5511987654321", "551187654321"),
    ("447700900001", "4477****0001"),
]


def test_a_receipt_with_a_rewritten_recipient_is_the_messages_own_only_at_its_signed_address(
    database: Database,
) -> None:
    made = [message(number, client_ref=f"ref-{number}") for number, _ in REWRITTEN]
    accept(database, *made)
    with database.transaction() as session:
        session.execute(update(Message).values(offered_at=T0, status="submitted"))
    for one, (_, written) in zip(made, REWRITTEN, strict=True):
        kept = [
            keep(database, said(to=written), message_id=one.id),
            keep(database, said(to=written, ref=f"ref-{one.recipient}")),
            keep(database, said(to="447700900009"), message_id=one.id),
        ]
        work_off(database)
        assert outcomes(database, kept) == ["applied", "unmatched", "quarantined"]
        assert "its recipient" in (read_inbox(database, kept[0]).reason or "")
