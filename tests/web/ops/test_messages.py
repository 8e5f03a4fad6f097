"""A message's page: what became of it and why, what hides what is personal, and what can be done about it."""

import re
from datetime import timedelta
from urllib.parse import quote
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, update

from receiptsvc import ids
from receiptsvc.domain.messages import SendOutcome, SendResult
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit, Message, OpsSession
from receiptsvc.store.messages import transitions
from receiptsvc.store.outbound import call_results, send_gate
from receiptsvc.store.outbound.call_results import AttemptResult
from tests.support import rows, work
from tests.support.rows import seconds

RECIPIENT, TEXT = "447700900123", "Your parcel waits at the shop"


def page_of(message_id: UUID) -> str:
    return f"/ops/messages/{ids.public('msg', message_id)}"


def read(browser: FlaskClient, message_id: UUID, *, is_revealed: bool = False) -> str:
    """The page's words, in one line."""
    page = page_of(message_id)
    answer = browser.post(page, data={"action": "reveal"}) if is_revealed else browser.get(page)
    assert answer.status_code == 200, answer.text
    return words(answer.text)


def words(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).replace("&#39;", "'").replace("&#34;", '"').split())


def deliver(database: Database) -> UUID:
    """A message that was delivered, after which the gateway says that it was sent."""
    made = rows.message(RECIPIENT, TEXT, client_ref="order/7", originator="ACME")
    message_id = work.send(database, made, tx="815")
    for at, query in (
        (9, work.said("Delivered", to=RECIPIENT, ref="order/7", tx="815", at=5)),
        (13, work.said("Message sent", to=RECIPIENT, ref="order/7", tx="815", at=4)),
    ):
        rows.keep(database, query, message_id=message_id, now=seconds(at))
        work.work_off(database, at)
    return message_id


def audits(database: Database, subject: str) -> list[tuple[str, str, str | None]]:
    with database.reading() as session:
        found = session.scalars(select(Audit).where(Audit.subject == subject).order_by(Audit.id))
        return [(each.actor, each.action, each.reason) for each in found]


def test_the_status_comes_first_with_what_it_means_and_why(browser: FlaskClient, database: Database) -> None:
    page = read(browser, deliver(database))
    assert "✓ delivered : on the handset since 05 Jan 2026 12:00:05 UTC · Reload On the handset." in page
    assert (
        "Why: The gateway said: 1 · Delivered, at 05 Jan 2026 12:00:05 UTC by its own clock, which means delivered; "
        "that is a final word" in page
    )
    assert page.index("Why:") < page.index("The way there") < page.index("Tries") < page.index("What it says")


def test_what_came_late_says_how_long_after_what(browser: FlaskClient, database: Database) -> None:
    page = read(browser, deliver(database))
    assert "stale: sent came 4.0 s after delivered." in page
    assert "It left the status as it was: delivered had been recorded before" in page
    assert "5.0 s later" in page
    assert "1.0 s earlier, by its own time" in page
    assert "submitted to final 5.0 s" in page
    assert page.count("decides") == 1


def test_a_try_shows_what_the_gateway_answered(browser: FlaskClient, database: Database) -> None:
    made = rows.message(RECIPIENT)
    [message_id] = rows.accept(database, made)
    work.offer(database)
    result = SendResult(outcome=SendOutcome.REFUSED, code="12", description="Bad originator", detail="for 447700900123")
    with database.transaction() as session:
        ended = {message_id: AttemptResult(number=1, result=result)}
        call_results.record_results(session, ended, seconds(2), work.REPEATS)
    page = read(browser, message_id)
    assert "refused [12] Bad originator for [number]" in page
    assert "2.0 s" in page


def test_a_message_that_waits_says_why_and_since_when_it_is_overdue(browser: FlaskClient, database: Database) -> None:
    [message_id] = rows.accept(database)
    page = read(browser, message_id)
    assert "Overdue since 05 Jan 2026 13:00:00 UTC" in page
    assert "Next:" not in page, "its turn has come: what holds it is no time"
    assert "It waits: no worker is at work." in page
    assert "None has come yet." in page


def test_a_next_try_is_told_while_it_is_to_come(browser: FlaskClient, database: Database) -> None:
    message_id = work.send(database, rows.message(), SendOutcome.NOT_SENT)
    later = database.clock.now() + timedelta(hours=1)
    with database.transaction() as session:
        session.execute(update(Message).where(Message.id == message_id).values(due_at=later))
    assert f"Next: the next try is due at {later:%d %b %Y %H:%M:%S} UTC" in read(browser, message_id)


def test_a_message_that_is_scheduled_here_says_until_when_and_can_be_cancelled(
    browser: FlaskClient, database: Database
) -> None:
    later = database.clock.now() + timedelta(days=1)
    made = rows.message(deliver_after=later)
    with database.transaction() as session:
        transitions.accept(session, [made], seconds(0), schedules_messages=True)
        send_gate.pause(session, "anna", "wrong price", seconds(1))
    page, at = read(browser, made.id), f"{later:%d %b %Y %H:%M:%S} UTC"
    assert "may be refused" not in page
    assert f"It waits: it is kept here until its deliverAfter, {at} ; sending is paused since" in page
    assert f"Next: it is due to go out at {at}" in page
    assert "Cancel the message" in page
    assert f"scheduled for {at}" in words(browser.get("/ops/messages").text)
    conversation = ids.public("cnv", made.conversation_id)
    assert f"scheduled for {at}" in words(browser.get(f"/ops/conversations/{conversation}").text)


def test_a_message_that_the_gateway_keeps_until_later_says_why_it_cant_be_cancelled(
    browser: FlaskClient, database: Database
) -> None:
    later = database.clock.now() + timedelta(days=1)
    message_id = work.send(database, rows.message(deliver_after=later))
    page, at = read(browser, message_id), f"{later:%d %b %Y %H:%M:%S} UTC"
    assert f"The gateway keeps it until its deliverAfter, {at} , and can't give it back." in page
    assert f"Next: the gateway is to send it at {at}" in page
    refusal = f"The gateway has it and keeps it until {at} , its deliverAfter: it can't be taken back."
    assert refusal in page
    assert "Cancel the message" not in page
    assert f"scheduled for {at}" in words(browser.get("/ops/messages").text)
    answer = browser.post(page_of(message_id), data={"action": "cancel", "reason": "too late"})
    assert answer.status_code == 409
    assert f"Nothing was done. {refusal}" in words(answer.text)


def test_numbers_and_texts_are_hidden_until_they_are_revealed(browser: FlaskClient, database: Database) -> None:
    message_id = deliver(database)
    hidden = browser.get(page_of(message_id)).text
    for secret in (RECIPIENT, RECIPIENT[2:], TEXT, "7700900"):
        assert secret not in hidden
        assert quote(secret) not in hidden
    assert "recipient=•••&amp;clientref=order%2F7&amp;transactionid=815" in hidden, "as it came"
    assert "+44 ••• •••123" in hidden
    shown = read(browser, message_id, is_revealed=True)
    assert TEXT in shown
    assert f"recipient={RECIPIENT}&amp;clientref=order%2F7" in shown
    assert f"Number +{RECIPIENT}" in shown


def test_each_reveal_is_on_record_and_the_page_says_so(browser: FlaskClient, database: Database) -> None:
    message_id = deliver(database)
    subject = ids.public("msg", message_id)
    assert "Nobody has done anything" in read(browser, message_id)
    read(browser, message_id, is_revealed=True)
    read(browser, message_id, is_revealed=True)
    assert audits(database, subject) == [("key opser", "reveal", None)] * 2
    assert "key opser reveal" in read(browser, message_id)


def test_nothing_personal_is_in_the_title_or_in_a_header(browser: FlaskClient, database: Database) -> None:
    message_id = deliver(database)
    for answer in (browser.get(page_of(message_id)), browser.post(page_of(message_id), data={"action": "reveal"})):
        [title] = re.findall("<title>(.*?)</title>", answer.text)
        assert title == f"Message {ids.public('msg', message_id)} · receiptsvc"
        for address in re.findall(r'(?:href|action|src|hx-get)="([^"]*)"', answer.text):
            assert not re.search("7700900|order|parcel", address)
        assert not re.search("7700900|order|parcel", str(answer.headers))
        assert answer.headers["Cache-Control"] == "no-store"


def test_it_leads_to_all_that_goes_with_it(browser: FlaskClient, database: Database) -> None:
    message_id = deliver(database)
    page = browser.get(page_of(message_id)).text
    conversation = ids.public("cnv", rows.read_message(database, message_id).conversation_id)
    assert f'href="../../ops/conversations/{conversation}"' in page
    receipt_ids = [each.receipt_id for each in rows.read_transitions(database, message_id) if each.receipt_id]
    for receipt_id in receipt_ids:
        assert f'href="../../ops/receipts/{ids.public("rcp", receipt_id)}"' in page
    assert 'action="../../ops/people"' in page
    assert f'name="of" value="{ids.public("msg", message_id)}"' in page
    assert '<input type="hidden" name="q" value="815">' in page


def test_ids_that_look_like_numbers_are_shown(browser: FlaskClient, database: Database) -> None:
    guid = "4477009a-0012-4345-8000-447700900123"
    [message_id] = rows.accept(database, rows.message(message_guid=guid))
    rows.keep(database, work.said(tx="70000001"), message_id=message_id, now=seconds(9))
    work.work_off(database, 9)
    page = read(browser, message_id)
    assert f"messageGuid {guid}" in page
    assert "transactionID 70000001" in page
    [other_id] = rows.accept(database, rows.message(message_guid="of-447700900123"))
    assert "messageGuid of-[number]" in read(browser, other_id)


def test_a_message_is_cancelled_for_a_reason(browser: FlaskClient, database: Database) -> None:
    [message_id] = rows.accept(database)
    page = page_of(message_id)
    assert "Cancel the message" in browser.get(page).text
    answer = browser.post(page, data={"action": "cancel", "reason": "the wrong text"})
    assert (answer.status_code, answer.headers["Location"]) == (303, f"../../{page.lstrip('/')}")
    after = read(browser, message_id)
    assert "⊖ cancelled" in after
    assert "key opser cancel the wrong text" in after
    assert "Cancel the message" not in after
    assert audits(database, ids.public("msg", message_id)) == [("key opser", "cancel", "the wrong text")]


def test_a_refusal_is_shown_in_its_words_and_what_was_typed_stays(browser: FlaskClient, database: Database) -> None:
    message_id = deliver(database)
    answer = browser.post(page_of(message_id), data={"action": "cancel", "reason": "too late"})
    assert answer.status_code == 409
    assert "Nothing was done. It is delivered, and can't be cancelled any more." in words(answer.text)
    assert audits(database, ids.public("msg", message_id)) == []
    unknown = work.send(database, rows.message("447700900124"), SendOutcome.UNCLEAR, at=60)
    answer = browser.post(page_of(unknown), data={"action": "cancel", "reason": "seen too late"})
    assert answer.status_code == 409
    assert 'value="seen too late"' in answer.text
    assert "The gateway may have it" in answer.text


def test_settling_a_message_needs_what_became_of_it_and_how_that_is_known(
    browser: FlaskClient, database: Database
) -> None:
    unknown = work.send(database, rows.message(), SendOutcome.UNCLEAR)
    page, form = page_of(unknown), {"action": "resolve", "status": "submitted", "reason": "seen in the portal"}
    for missing in ("status", "reason"):
        answer = browser.post(page, data=form | {missing: ""})
        assert answer.status_code == 422
        assert f'id="resolve-{missing}-fault"' in answer.text
        assert "<option selected>submitted" in answer.text or missing == "status"
        assert 'value="seen in the portal"' in answer.text or missing == "reason"
    assert rows.read_message(database, unknown).status == "send_unknown"
    assert browser.post(page, data=form | {"status": "sent"}).status_code == 422, "that settles nothing"
    assert browser.post(page, data=form).status_code == 303
    assert "key opser resolve to submitted seen in the portal" in read(browser, unknown)
    assert rows.read_message(database, unknown).status == "submitted"
    answer = browser.post(page, data=form)
    assert answer.status_code == 409
    assert "Only a message that is send_unknown can be resolved; this one is submitted." in answer.text


def test_a_form_of_another_site_does_nothing(browser: FlaskClient, database: Database) -> None:
    [message_id] = rows.accept(database)
    form = {"action": "cancel", "reason": "forged"}
    assert browser.post(page_of(message_id), data=form, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert rows.read_message(database, message_id).status == "accepted"


HOSTILE = '</p><script>alert(1)</script>" onload="x \u202e\u2066 {{ 7 * 7 }} ' + "W" * 10_000


def test_hostile_texts_are_shown_harmlessly(browser: FlaskClient, database: Database) -> None:
    client_ref = '<img src=x>"\u202e&'
    [message_id] = rows.accept(database, rows.message(text=HOSTILE, client_ref=client_ref))
    for answer in (browser.get(page_of(message_id)), browser.post(page_of(message_id), data={"action": "reveal"})):
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text
        assert "<img" not in answer.text
        assert "<bdi>&lt;img src=x&gt;&#34;\u202e&amp;</bdi>" in answer.text
    assert '<p class="text" dir="auto">&lt;/p&gt;&lt;script&gt;' in answer.text
    assert "{{ 7 * 7 }}" in answer.text


def test_what_moves_is_sent_again_only_when_it_has_changed(browser: FlaskClient, database: Database) -> None:
    message_id = work.send(database, rows.message(RECIPIENT, client_ref="order/7"), tx="815")
    page = browser.get(page_of(message_id)).text
    [tag] = re.findall(r'hx-headers=.\{"If-None-Match": "(W/\\"\w+\\")"', page)
    headers = {"If-None-Match": tag.replace("\\", ""), "HX-Request": "true"}
    part = f"{page_of(message_id)}?now=submitted"
    unchanged = browser.get(part, headers=headers)
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    rows.keep(database, work.said(to=RECIPIENT, tx="815", at=5), message_id=message_id, now=seconds(9))
    work.work_off(database, 9)
    changed = browser.get(part, headers=headers)
    assert changed.status_code == 200
    assert "It is delivered now." in changed.text
    assert "<html" not in changed.text
    assert RECIPIENT not in changed.text
    again = browser.get(f"{page_of(message_id)}?now=delivered", headers={"If-None-Match": changed.headers["ETag"]})
    assert again.status_code == 304
    assert "now." not in browser.get(f"{page_of(message_id)}?now=delivered").text, "it has not changed"


def test_a_revealed_page_does_not_move(browser: FlaskClient, database: Database) -> None:
    message_id = deliver(database)
    assert "data-live" in browser.get(page_of(message_id)).text
    assert "data-live" not in browser.post(page_of(message_id), data={"action": "reveal"}).text


def test_a_part_leads_the_whole_page_to_the_sign_in_once_the_session_has_ended(visitor: FlaskClient) -> None:
    answer = visitor.get("/ops/messages/msg_x?now=sent", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (204, "../../ops/sign-in?to=messages/msg_x")


def test_a_page_that_looks_again_by_itself_does_not_keep_the_session_open(
    browser: FlaskClient, database: Database
) -> None:
    message_id = deliver(database)
    with database.transaction() as session:
        session.execute(update(OpsSession).values(seen_at=database.clock.now() - timedelta(minutes=30)))
    part = f"{page_of(message_id)}?now=sent"
    assert "Set-Cookie" not in browser.get(part, headers={"HX-Request": "true"}).headers
    assert "Set-Cookie" in browser.get(page_of(message_id)).headers


@pytest.mark.parametrize("message_id", ["msg_x", "nothing", ids.public("msg", UUID(int=1))])
def test_what_is_not_there_is_said_so(browser: FlaskClient, message_id: str) -> None:
    answer = browser.get(f"/ops/messages/{message_id}")
    assert answer.status_code == 404
    assert "There is no message with this id." in answer.text


def test_many_receipts_are_shown_in_part_and_the_deciding_one_is_among_them(
    browser: FlaskClient, database: Database
) -> None:
    message_id = work.send(database, rows.message(RECIPIENT), tx="815")
    for number in range(30):
        word = "Delivered" if number == 3 else "Message sent"
        query = work.said(word, to=RECIPIENT, tx="815", at=number)
        rows.keep(database, query, message_id=message_id, now=seconds(number + 1))
    work.work_off(database)
    page = browser.get(page_of(message_id)).text
    assert page.count("As it came, by GET") == 11
    deciding = next(each for each in rows.read_transitions(database, message_id) if each.status == "delivered")
    assert deciding.receipt_id is not None
    assert f'<h3><a href="../../ops/receipts/{ids.public("rcp", deciding.receipt_id)}"' in page
