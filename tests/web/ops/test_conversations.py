"""A conversation's page: our messages and the replies, the newest hundred at once, with what became of each message."""

import re
from urllib.parse import urljoin
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update

from receiptsvc import ids
from receiptsvc.domain.messages import NewMessage
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message, Reply
from tests.support import rows, stories, work
from tests.support.rows import seconds
from tests.web.ops.test_messages import RECIPIENT, audits, words

REF = "order/7"
PART = {"HX-Request": "true"}


def made(text: str = "Hello", recipient: str = RECIPIENT) -> NewMessage:
    return rows.message(recipient, text, client_ref=REF)


def page_of(conversation_id: UUID) -> str:
    return f"/ops/conversations/{ids.public('cnv', conversation_id)}"


def talk(database: Database) -> UUID:
    """A delivered message, a reply, an opt-out, and a message that waits; the conversation's id."""
    first = made("Your parcel is here")
    message_id = work.send(database, first, tx="815")
    for at, word in ((9, "Delivered"), (13, "Message sent")):
        query = work.said(word, to=RECIPIENT, tx="815", at=at - 4)
        rows.keep(database, query, message_id=message_id, now=seconds(at))
        work.work_off(database, at)
    stories.reply(database, REF, seconds(60), sender=RECIPIENT, content="Until when?")
    stories.reply(database, REF, seconds(120), sender=RECIPIENT, content="STOP")
    with database.transaction() as session:
        session.execute(update(Reply).where(Reply.content == "STOP").values(is_opt_out=True))
    rows.accept(database, made("Until eight"), now=seconds(180))
    return first.conversation_id


def steps_in(browser: FlaskClient, page: str, number: int = 0) -> str:
    """The part that a script of the page asks for when a message's steps are opened."""
    address = re.findall(r'hx-get="([^"]*messages/msg_\w+\?steps)"', page)[number]
    return browser.get(urljoin("/ops/conversations/cnv", address), headers=PART).text


def shown_ids(page: str) -> list[str]:
    return re.findall(r'<li(?: class="ours")? id="((?:msg|rpl)_\w+)"', page)


def test_it_is_one_list_in_the_order_of_time_ours_told_from_theirs(browser: FlaskClient, database: Database) -> None:
    page = browser.post(page_of(talk(database)), data={"action": "reveal"}).text
    [entries] = re.findall(r'<ol class="talk">.*</ol>', page, re.DOTALL)
    order = [entries.index(text) for text in ("Your parcel is here", "Until when?", "STOP", "Until eight")]
    assert order == sorted(order)
    assert re.findall(r'<li( class="ours")? id="(\w+?)_', entries) == [
        (' class="ours"', "msg"),
        ("", "rpl"),
        ("", "rpl"),
        (' class="ours"', "msg"),
    ]
    assert entries.count("We wrote") == entries.count("They replied") == 2


def test_each_message_tells_its_status_its_steps_and_what_is_overdue(browser: FlaskClient, database: Database) -> None:
    whole = browser.get(page_of(talk(database))).text
    page, steps = words(whole), words(steps_in(browser, whole))
    assert "✓ delivered : on the handset" in page
    assert "stale: sent came 4.0 s after delivered." in steps
    assert "5.0 s later" in steps
    assert "overdue since 05 Jan 2026 13:03:00 UTC" in page
    assert "waits to be sent" in page
    assert "✕ opted out" in page
    assert "Last active 05 Jan 2026 12:03:00 UTC : we wrote" in page


def test_exact_times_stand_in_the_markup(browser: FlaskClient, database: Database) -> None:
    page = steps_in(browser, browser.get(page_of(talk(database))).text)
    assert '<time datetime="2026-01-05T12:00:05.000Z" title="2026-01-05 12:00:05.000 UTC">' in page


def test_numbers_and_texts_are_hidden_until_they_are_revealed(browser: FlaskClient, database: Database) -> None:
    conversation_id = talk(database)
    hidden = browser.get(page_of(conversation_id)).text
    for secret in (RECIPIENT, "7700900", "parcel", "Until when", "STOP"):
        assert secret not in hidden
    assert "+44 ••• •••123" in hidden
    assert REF in words(hidden)
    shown = browser.post(page_of(conversation_id), data={"action": "reveal"}).text
    assert RECIPIENT in shown
    assert audits(database, ids.public("cnv", conversation_id)) == [("key opser", "reveal", None)]


def test_no_address_and_no_title_names_anything_personal(browser: FlaskClient, database: Database) -> None:
    conversation_id = talk(database)
    for answer in (
        browser.get(page_of(conversation_id)),
        browser.post(page_of(conversation_id), data={"action": "reveal"}),
    ):
        assert f"<title>Conversation {ids.public('cnv', conversation_id)} · receiptsvc</title>" in answer.text
        for address in re.findall(r'(?:href|action|src)="([^"]*)"', answer.text):
            assert not re.search("7700900|order|parcel", address)


def test_everybody_in_it_leads_to_all_with_their_number(browser: FlaskClient, database: Database) -> None:
    [one, other] = rows.accept(database, made(), made(recipient="447700900124"))
    page = browser.get(page_of(rows.read_message(database, one).conversation_id)).text
    for message_id in (one, other):
        assert f'name="of" value="{ids.public("msg", message_id)}"' in page
    assert "to <bdi>+44 ••• •••124</bdi>" in page


def test_a_thousand_messages_open_with_the_newest_and_go_back_without_gap_or_repeat(
    browser: FlaskClient, database: Database
) -> None:
    messages = [made(str(number)) for number in range(1000)]
    rows.accept(database, *messages)
    stories.reply(database, REF, seconds(1), sender=RECIPIENT)
    first = page_of(messages[0].conversation_id)
    address, seen = first, list[str]()
    for _ in range(20):
        page = browser.get(address).text
        entries = shown_ids(page)
        seen = [*entries, *seen]
        if address == first:
            assert len(entries) == 100
            assert entries[-1].startswith("rpl_")
            [arrived] = rows.accept(database, made("new"), now=seconds(2))  # while somebody reads
        earlier = re.findall(r'href="\?before=([\w-]+)"', page)
        if not earlier:
            break
        address = f"{first}?before={earlier[0]}"
    assert "This is the beginning." in page
    assert seen[:-1] == sorted(ids.public("msg", each.id) for each in messages)
    assert ids.public("msg", arrived) not in seen
    assert "To the newest" in page
    assert ids.public("msg", arrived) in browser.get(first).text


def test_a_message_with_many_reports_shows_some_of_them(browser: FlaskClient, database: Database) -> None:
    message_id = work.send(database, made(), tx="815")
    for number in range(30):
        word = "Delivered" if number == 25 else "Message sent"
        query = work.said(word, to=RECIPIENT, tx="815", at=number)
        rows.keep(database, query, message_id=message_id, now=seconds(number + 1))
    work.work_off(database)
    whole = browser.get(page_of(rows.read_message(database, message_id).conversation_id)).text
    assert "32 steps" in words(whole)
    steps = words(steps_in(browser, whole))
    assert "19 more." in steps
    assert "✓ delivered : on the handset decides" in steps


def test_steps_are_hidden_until_they_are_revealed_and_that_is_on_record(
    browser: FlaskClient, database: Database
) -> None:
    message_id = work.send(database, made(), tx="815")
    rows.keep(database, work.said("Call me: 447700900555", to=RECIPIENT, tx="815", at=1), message_id=message_id)
    work.work_off(database)
    address = f"/ops/messages/{ids.public('msg', message_id)}?steps"
    assert "7700900555" not in browser.get(address, headers=PART).text
    assert audits(database, ids.public("msg", message_id)) == []
    assert "447700900555" in browser.post(address, data={"action": "reveal"}, headers=PART).text
    assert audits(database, ids.public("msg", message_id)) == [("key opser", "reveal", None)]


def test_without_script_the_steps_are_on_the_message_s_page(browser: FlaskClient, database: Database) -> None:
    page = browser.get(page_of(talk(database))).text
    [first, _] = re.findall(r'<div class="steps"><a href="[./]*(/ops/messages/msg_\w+)">', page)
    assert "stale: sent came 4.0 s after delivered." in words(browser.get(first).text)
    assert browser.get(f"{first}?steps").headers["Location"].endswith(first)


def test_steps_of_a_message_that_is_not_there_are_missing(browser: FlaskClient) -> None:
    assert browser.get(f"/ops/messages/{ids.public('msg', UUID(int=1))}?steps", headers=PART).status_code == 404


@pytest.mark.parametrize("path", ["cnv_x", ids.public("cnv", UUID(int=1)), ids.public("msg", UUID(int=1))])
def test_what_is_not_there_is_said_so(browser: FlaskClient, path: str) -> None:
    answer = browser.get(f"/ops/conversations/{path}")
    assert answer.status_code == 404
    assert "There is no conversation with this id." in answer.text


def test_a_changed_address_says_what_to_do(browser: FlaskClient, database: Database) -> None:
    answer = browser.get(f"{page_of(talk(database))}?before=nonsense")
    assert answer.status_code == 404
    assert "choose Earlier again" in answer.text


def test_a_hostile_text_and_client_ref_are_shown_harmlessly(browser: FlaskClient, database: Database) -> None:
    client_ref = "</dd><script>alert(1)</script>\u202e"
    hostile = rows.message(RECIPIENT, "<script>alert(2)</script>\u2067" + "W" * 10_000, client_ref=client_ref)
    rows.accept(database, hostile)
    stories.reply(database, client_ref, seconds(1), content="<script>alert(3)</script>\u202e")
    answer = browser.post(page_of(hostile.conversation_id), data={"action": "reveal"})
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert(2)" in answer.text
    assert "&lt;script&gt;alert(3)" in answer.text


def test_a_page_says_that_something_has_come_or_changed_and_shows_it_when_asked(
    browser: FlaskClient, database: Database
) -> None:
    conversation_id = talk(database)
    page = browser.get(page_of(conversation_id)).text
    [tag] = re.findall(r'hx-headers=.\{"If-None-Match": "(W/\\"\w+\\")"', page)
    headers = {"If-None-Match": tag.replace("\\", ""), **PART}
    part = f"{page_of(conversation_id)}?now"
    unchanged = browser.get(part, headers=headers)
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    with database.transaction() as session:
        session.execute(update(Message).values(tries=Message.tries + 1))
    changed = browser.get(part, headers=headers)
    assert words(changed.text) == "Something has come or changed since. Show it"
    assert "data-live" not in changed.text, "it says so once"


def test_an_earlier_page_of_a_conversation_is_not_asked_for_again(browser: FlaskClient, database: Database) -> None:
    messages = [made(str(number)) for number in range(101)]
    rows.accept(database, *messages)
    first = page_of(messages[0].conversation_id)
    page = browser.get(first).text
    [earlier] = re.findall(r'href="\?before=([\w-]+)"', page)
    assert "data-live" in page
    assert "data-live" not in browser.get(f"{first}?before={earlier}").text
