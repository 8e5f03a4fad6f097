"""The ops page in a browser, on real processes: what is seen, by the eye and by axe, and what works by which means.

One stack and one browser serve all of it. Where there is no browser, pytest's summary says that this was left out.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
import requests

from receiptsvc import ids, tokens
from receiptsvc.config import Settings
from receiptsvc.demo.processes import Stack
from receiptsvc.demo.story import let_replies_through
from receiptsvc.domain.problems import Kind, Seen
from receiptsvc.store.core.db import Database, plain_url
from receiptsvc.store.health import problems
from receiptsvc.store.health.causes import Look
from receiptsvc.web.ops.failure_rows import Part
from tests.support import accessibility, browser, databases
from tests.support.browser import Tab
from tests.support.forms import IS_LONG

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.find() is None, reason="there is no Chromium: apt-get install chromium"),
]

NUMBER, REF, TEXT = "447700900123", "order/7 \u202e<i>", "Your parcel waits <script>alert(1)</script>"
PARKED = "447700900556"  # receipts name it that fit no message
LATE = "447700900912"  # the sandbox reports about this number later
LOST = "447700900941"  # the answer about this one is lost, and no receipt comes
FAILS = "447700900901"  # the sandbox reports this one as undelivered
UNREAD = "447700900904"  # and this one with a code that nobody knows
WIDTHS = (375, 1440)
LIGHTS = ("light", "dark")
LATE_SECONDS = 3

# Waits for what a script of the page brings about.
UNTIL = "new Promise((done) => {{ const look = () => {0} ? done(true) : setTimeout(look, 50); look(); }})"


class Talk(NamedTuple):
    """What was sent, as the addresses of its pages below the service's."""

    message: str
    unknown: str
    conversation: str
    receipt: str


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, postgresql_template: str) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("ops")
    settings = {"DYNMARK_TRANSPORT": "rest"}  # by which what may have been sent is not offered again
    with (
        databases.scratch_postgresql(postgresql_template) as url,
        Stack(folder / "stack", url, settings=settings) as stack,
    ):
        stack.start_all()
        let_replies_through(stack)
        control(stack, "behaviour", late_seconds=LATE_SECONDS)
        yield stack


@pytest.fixture(scope="module")
def talk(stack: Stack) -> Talk:
    """A conversation with a delivered message, a reply that opts out, and a message of which nobody knows."""
    client = stack.client()
    sent = []
    for number, status in ((NUMBER, "delivered"), (LOST, "send_unknown")):  # one by one: a lost call loses all in it
        sent.append(send(stack, number, TEXT))
        await_status(stack, sent[-1], status)
    control(stack, "reply", sender=NUMBER, recipient="ACME", content="STOP", clientRef=REF)
    stack.wait_until("the reply is processed", lambda: bool(list(client.replies())))
    message = client.message(sent[0])
    receipt_id = next(each["receiptId"] for each in message["transitions"] if each["receiptId"])
    return Talk(
        f"/ops/messages/{sent[0]}",
        f"/ops/messages/{sent[1]}",
        f"/ops/conversations/{message['conversationId']}",
        f"/ops/receipts/{receipt_id}",
    )


@pytest.fixture(scope="module")
def failing(stack: Stack) -> Sequence[str]:
    """The pages of failures and codes, once a message has failed and another has a code that nobody knows."""
    await_status(stack, send(stack, FAILS, "It fails"), "undelivered")
    unread = send(stack, UNREAD, "Nobody knows")
    client = stack.client()

    def find_receipt() -> str | None:
        told = client.message(unread)["transitions"]
        return next((each["receiptId"] for each in told if each["effect"] == "unmapped"), None)

    stack.wait_until("its code is read", lambda: find_receipt() is not None)
    tables = (f"/ops/failures?range=today&by={part}" for part in Part)
    return [*tables, "/ops/failures?range=30d", "/ops/codes", f"/ops/codes/{find_receipt()}?status=expired"]


@pytest.fixture(scope="module")
def signed_in(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser.started(tmp_path_factory.mktemp("browser")) as tab:
        tab.resize(1440, 900)
        tab.open(f"{stack.url}/ops/sign-in")
        tab.fill("#secret", stack.api_key)
        tab.follow("document.querySelector('form.fields').requestSubmit()")
        yield tab


@pytest.fixture(scope="module")
def parking(stack: Stack, signed_in: Tab) -> Sequence[str]:
    """The parking lot with some receipts that fit no message, one of them, and the preview of what is done to all."""
    address = tokens.static_urls(Settings.from_env(stack.environ)).receipts
    alike = {"recipients": [PARKED], "text": TEXT, "originator": "ACME", "clientRef": "order/9"}
    [item] = stack.client().send([alike])
    await_status(stack, str(item["id"]), "delivered")
    said = {"recipient": PARKED, "clientref": "order/9", "statusid": "1", "statusdescription": "Delivered"}
    for number in range(3):
        requests.get(address, params={**said, "transactionid": f"99{number}"}, timeout=10).raise_for_status()
    client = stack.client()
    stack.wait_until("they are parked", lambda: len(list(client.receipts(outcome="unmatched"))) == 3)
    visit(signed_in, f"{stack.url}/ops/receipts")
    choose(signed_in, "all", "dismiss")
    chosen = signed_in.run("location.pathname")
    return "/ops/receipts", f"/ops/receipts/{next(client.receipts(outcome='unmatched'))['id']}", chosen


@pytest.fixture
def tab(signed_in: Tab) -> Tab:
    signed_in.resize(1440, 900)
    signed_in.prefer("light")
    return signed_in


def control(stack: Stack, command: str, **members: object) -> None:
    requests.post(f"{stack.sandbox_url}/sandbox/{command}", data=json.dumps(members), timeout=10).raise_for_status()


def send(stack: Stack, number: str, text: str) -> str:
    message = {"recipients": [number], "text": text, "originator": "ACME", "clientRef": REF}
    [item] = stack.client().send([message])
    return str(item["id"])


def await_status(stack: Stack, message_id: str, status: str) -> None:
    stack.wait_until(f"it is {status}", lambda: stack.client().message(message_id)["status"] == status)


def stage_problem(stack: Stack) -> str:
    """Have a problem kept, which the worker's next look ends; the address of its page."""
    database = Database(stack.database_url)
    now = database.clock.now()
    seen = Seen(kind=Kind.UNMATCHED, cause={"channel": "account"}, first_at=now, last_at=now, count=41)
    with closing(database), database.transaction() as session:
        problems.note(session, Look(at=now, seen=[seen]))
    return f"/ops/problems/{ids.public('prb', seen.id)}"


def visit(tab: Tab, url: str) -> None:
    """Open a page, and wait for it if it is late, or open it again if it was too late, as on a busy machine it may be."""
    tab.open(url)
    while tab.run("document.querySelector('h1').innerText") in {"No database", "The database is slow"}:
        tab.open(url)
    until(tab, "!document.querySelector('.late')")


def until(tab: Tab, condition: str) -> None:
    assert tab.run(UNTIL.format(condition))


def choose(tab: Tab, which: str, do: str) -> None:
    """Ask for the preview of what is done to many receipts."""
    for name, value in (("which", which), ("do", do)):
        tab.run(f"document.querySelector('input[name={name}][value={value}]').click()")
    tab.fill("#choice-reason", "a test")
    tab.follow("document.querySelector('button[value=preview]').click()")


def words(tab: Tab, selector: str = "main") -> str:
    found = tab.run(f"document.querySelector({json.dumps(selector)}).innerText")
    return " ".join(str(found).split())


def test_no_page_has_a_fault_in_any_light_and_at_any_width(
    tab: Tab, stack: Stack, talk: Talk, failing: Sequence[str], parking: Sequence[str]
) -> None:
    """In the short form a page is looked at in one light at each width, in the other than the page before."""
    faults: dict[str, list[str]] = {}
    listed = ("search", "messages", "replies", "audit", "problems", "sending", "cancel", "batches", "settings")
    paths = (
        *talk,
        *parking,
        "/ops/receipts/refused",
        "/ops",
        *(f"/ops/{each}" for each in listed),
        "/ops/messages/msg_x",
        *failing,
        stage_problem(stack),
        "/ops/problems?state=resolved",
    )
    for number, path in enumerate(paths):
        visit(tab, stack.url + path)
        looks = list(product(WIDTHS, LIGHTS)) if IS_LONG else zip(WIDTHS, LIGHTS[:: 1 - 2 * (number % 2)], strict=True)
        for width, light in looks:
            tab.resize(width, 900)
            tab.prefer(light)
            found = accessibility.find_faults(tab)
            if found:
                faults[f"{path} {width} {light}"] = found
    assert faults == {}


def test_nothing_scrolls_sideways_on_a_phone_or_at_four_times_the_size(
    tab: Tab, stack: Stack, talk: Talk, parking: Sequence[str]
) -> None:
    for path in (*talk, *parking, "/ops", "/ops/audit?by=all"):
        for is_revealed in (False, True) if path != "/ops" else (False,):
            visit(tab, stack.url + path)
            if is_revealed:
                tab.follow("document.querySelector('button[value=reveal]').click()")
            for width in (320, *WIDTHS):
                tab.resize(width, 900)
                tab.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
                assert tab.run("document.documentElement.scrollWidth") <= width, (path, width, is_revealed)


def assert_fits(tab: Tab) -> None:
    """The page has no fault in any light, and nothing scrolls sideways, at any width."""
    for width in (320, *WIDTHS):
        tab.resize(width, 900)
        assert tab.run("document.documentElement.scrollWidth") <= width, width
        for scheme in ("light", "dark"):
            tab.prefer(scheme)
            assert accessibility.find_faults(tab) == [], (width, scheme)
    tab.resize(1440, 900)


def press(tab: Tab, words_of_it: str) -> None:
    """Press a button, which leads to another page, and wait for that."""
    tab.follow(
        f"[...document.querySelectorAll('main button')].find((each) => each.innerText === {json.dumps(words_of_it)}).click()"
    )
    until(tab, "!document.querySelector('.late')")


def test_sending_is_paused_many_are_cancelled_and_their_batch_is_looked_at(tab: Tab, stack: Stack) -> None:
    visit(tab, f"{stack.url}/ops/sending")
    tab.fill("#pause-why", "wrong price")
    press(tab, "Pause sending")
    try:
        assert "paused" in words(tab, ".verdict")
        assert_fits(tab)
        sent = [send(stack, f"44770090013{number}", "Wrong price") for number in range(2)]
        visit(tab, f"{stack.url}/ops/cancel")
        tab.fill("#f-clientRef", REF)
        press(tab, "Find them")
        assert "2 messages would be cancelled" in words(tab)
        assert_fits(tab)
        tab.fill("#cancel-why", "wrong price")
        press(tab, "Cancel 2 messages")
        assert "2 of 2 cancelled" in words(tab)
        assert_fits(tab)
    finally:
        visit(tab, f"{stack.url}/ops/sending")
        tab.fill("#resume-why", "it is mended")
        press(tab, "Resume sending")
    assert "paused" not in words(tab, ".verdict")
    visit(tab, f"{stack.url}/ops/batches")
    tab.fill("#batch", sent[0])
    press(tab, "Look at it")
    assert "1 of 1 have their final status" in words(tab)
    assert_fits(tab)
    visit(tab, f"{stack.url}/ops/settings")
    assert_fits(tab)


def test_tables_of_failures_and_codes_fit_a_phone(tab: Tab, stack: Stack, failing: Sequence[str]) -> None:
    for path in failing:
        visit(tab, stack.url + path)
        for width in (320, *WIDTHS):
            tab.resize(width, 900)
            tab.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            assert tab.run("document.documentElement.scrollWidth") <= width, (path, width)


def test_the_bar_is_one_row_on_a_desk_and_a_column_of_times_one_line(
    tab: Tab, stack: Stack, failing: Sequence[str]
) -> None:
    assert failing
    visit(tab, f"{stack.url}/ops/codes")
    row = tab.run("document.querySelector('#q').offsetHeight")
    assert tab.run("document.querySelector('.bar').offsetHeight") < 2 * row
    assert tab.run("Math.max(...[...document.querySelectorAll('td time')].map((each) => each.offsetHeight))") < 30


def test_times_are_typed_in_the_readers_zone_and_sent_in_utc(tab: Tab, stack: Stack) -> None:
    tab.call("Emulation.setTimezoneOverride", {"timezoneId": "America/St_Johns"})
    try:
        visit(tab, f"{stack.url}/ops/failures?since=2026-01-05T00:00&until=2026-01-06T00:00")
        assert tab.run("document.querySelector('#f-since').value") == "2026-01-04T20:30"
        assert "your time (America/St_Johns), whole hours" in words(tab, "label[for=f-since]")
        tab.fill("#f-until", "2026-01-05T21:30")
        press(tab, "Show these")
        assert "since=2026-01-05T00%3A00&until=2026-01-06T01%3A00" in tab.run("location.search")
        assert tab.run("document.querySelector('#f-until').value") == "2026-01-05T21:30"
    finally:
        tab.call("Emulation.setTimezoneOverride", {"timezoneId": ""})


def test_from_what_failed_today_to_the_message_by_clicks(tab: Tab, stack: Stack, failing: Sequence[str]) -> None:
    visit(tab, stack.url + failing[0])
    tab.follow(
        "[...document.querySelectorAll('tbody button')].find((each) => each.innerText.includes('unsaid')).click()"
    )
    assert tab.run("location.pathname").startswith("/ops/search/srch_")
    assert tab.run("document.querySelectorAll('.row').length") == 1
    visit(tab, f"{stack.url}/ops/codes")
    assert "unmapped" in words(tab, "tbody tr")
    tab.follow("document.querySelector('tbody a').click()")
    tab.run("document.querySelector('#status').value = 'rejected'")
    tab.follow("document.querySelector('form.card button').click()")
    assert 'STATUS_MAP={"9": "rejected"}' in words(tab)
    assert "1 message: " in words(tab)


def test_a_change_is_seen_and_said_while_the_page_is_open(tab: Tab, stack: Stack) -> None:
    message_id = send(stack, LATE, "It comes late")
    await_status(stack, message_id, "submitted")
    visit(tab, f"{stack.url}/ops/messages/{message_id}")
    assert "submitted" in words(tab, ".verdict")
    assert tab.run("document.querySelector('[role=status]').textContent") == ""
    until(tab, "document.querySelector('.verdict').innerText.includes('delivered')")
    assert "is delivered now." in words(tab, "[role=status]")
    assert "decides" in words(tab, ".way")
    assert tab.run("'local' in document.querySelector('.verdict time').dataset"), "its time is in the reader's zone"


def test_the_first_page_says_what_becomes_wrong_while_it_is_open(tab: Tab, stack: Stack, talk: Talk) -> None:
    assert talk, "what the charts show"
    visit(tab, f"{stack.url}/ops")
    until(tab, "document.querySelector('#live').innerText.startsWith('Live: read at')")
    until(tab, "document.querySelector('#day-table')")  # on a busy machine the first reading comes by the stream
    tab.run("document.body.dataset.loaded = 'once'; document.querySelector('#day-table').open = true")
    assert tab.run("document.querySelector('#said').textContent") == ""
    stack.client().call("POST", "/v1/sending/pause", body={"reason": "to see"})
    # What others have left may be wrong by now: then that is the line, which is said aloud, and this stands below it.
    until(tab, "document.querySelector('#verdict').innerText.toLowerCase().includes('sending is paused by demo')")
    line = "document.querySelector('#verdict h1').innerText"
    until(
        tab, f"{line}.startsWith('Wrong') || document.querySelector('#said').textContent.includes('is paused by demo')"
    )
    assert "a pause of demo since" in words(tab, "#numbers")
    assert accessibility.find_faults(tab) == []
    stack.client().call("POST", "/v1/sending/resume", body={})
    until(tab, "!document.querySelector('#verdict').innerText.includes('paused')")
    until(tab, "!document.querySelector('#said').textContent.includes('paused')")
    assert tab.run("document.body.dataset.loaded") == "once"
    tab.run(
        "show({ type: 'charts', data: document.querySelector('#charts').innerHTML.replace(' open', ''), lastEventId: 'x' })"
    )
    assert tab.run("document.querySelector('#day-table').open"), "what was opened stays open"


def test_each_chart_is_readable_as_a_table(tab: Tab, stack: Stack, talk: Talk) -> None:
    assert talk
    visit(tab, f"{stack.url}/ops")
    until(tab, "document.querySelector('#day-table')")
    for name in ("day", "month"):
        said = tab.run(f"document.querySelector('#{name}-said').textContent")
        tab.run(f"document.querySelector('#{name}-table').open = true")
        assert "delivered" in words(tab, f"#{name}-table th:nth-child(2)"), said
        assert tab.run(f"document.querySelectorAll('#{name}-table tbody tr').length") == {"day": 24, "month": 30}[name]
    fills = tab.run("[...document.querySelectorAll('#charts path[fill]')].map((each) => each.getBBox().height)")
    assert fills
    assert min(fills) > 0


def test_numbers_are_revealed_and_hidden_by_the_keyboard_alone(tab: Tab, stack: Stack, talk: Talk) -> None:
    visit(tab, stack.url + talk.message)
    assert NUMBER not in tab.run("document.documentElement.outerHTML")
    for _ in range(30):
        tab.press("Tab")
        assert tab.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
        if tab.run("document.activeElement.value") == "reveal":
            break
    with tab.leaving():
        tab.press("Enter")
    assert NUMBER in words(tab)
    assert "Your parcel waits <script>alert(1)</script>" in words(tab)
    assert tab.run("location.pathname + location.search") == talk.message
    tab.press("/")
    assert tab.run("document.activeElement.id") == "q"


def test_a_search_by_each_kind_of_key_opens_what_it_names(tab: Tab, stack: Stack, talk: Talk) -> None:
    message = stack.client().message(talk.message.rpartition("/")[2])
    opened = {
        **dict.fromkeys((NUMBER, f"+{NUMBER}", f"00{NUMBER}", "+44 7700 900123", NUMBER[-5:]), "/ops/people/srch_"),
        **dict.fromkeys((message["id"], message["messageGuid"], message["transactionID"]), talk.message),
        **dict.fromkeys((message["conversationId"], REF), talk.conversation),
        talk.receipt.rpartition("/")[2]: talk.receipt,
    }
    for term, path in opened.items():
        visit(tab, f"{stack.url}/ops")
        tab.press("/")
        tab.write(term)
        with tab.leaving():
            tab.press("Enter")
        assert tab.run("location.pathname").startswith(path), term
        assert accessibility.find_faults(tab) == []


def test_ours_stand_right_and_theirs_left(tab: Tab, stack: Stack, talk: Talk) -> None:
    visit(tab, stack.url + talk.conversation)
    left = "document.querySelector('.talk > li{0}').getBoundingClientRect().left"
    assert tab.run(left.format(".ours")) > tab.run(left.format(":not(.ours)"))
    assert "opted out" in words(tab, ".talk")
    tab.run("document.querySelector('summary').click()")
    until(tab, "document.querySelector('details[open] .way')")
    assert "accepted" in words(tab, "details[open]")
    tab.follow("document.querySelector('button[value=reveal]').click()")
    tab.run("document.querySelector('summary').click()")
    until(tab, "document.querySelector('details[open] .way')")
    tab.follow("document.querySelector('details[open] .way a').click()")
    assert tab.run("location.pathname").startswith("/ops/receipts/")


def test_it_works_without_script(tab: Tab, stack: Stack, talk: Talk) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        visit(tab, stack.url + talk.message)
        assert not tab.run("'local' in document.querySelector('.verdict time').dataset")
        assert "UTC" in words(tab, ".verdict")
        assert tab.run("document.querySelector('.verdict a').textContent") == "Reload"
        tab.open(f"{stack.url}/ops")
        assert words(tab, "#live").startswith("Read at")
        assert "Workers 1 of release" in words(tab, "#numbers")
        visit(tab, stack.url + talk.message)
        tab.follow("document.querySelector('button[value=reveal]').click()")
        assert NUMBER in words(tab)
        tab.follow(
            "[...document.querySelectorAll('main a')].find((each) => each.innerText === 'Its conversation').click()"
        )
        assert "We wrote" in tab.run("document.querySelector('.talk').textContent")
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("has_script", [False, True])
def test_receipts_are_ticked_looked_at_and_dismissed_together(
    tab: Tab, stack: Stack, parking: Sequence[str], has_script: bool
) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", {"value": not has_script})
    try:
        visit(tab, stack.url + parking[0])
        tab.run("document.querySelector('input[name=receipt]').click()")
        choose(tab, "ticked", "dismiss")
        assert "Preview: 1 receipt." in words(tab)
        tab.follow("document.querySelector('button[value=go]').click()")
        assert "1 of 1 receipt dismissed. By key demo" in words(tab)
        tab.follow("document.querySelector('button[value=undo]').click()")
        assert "1 of 1 receipt restored. By key demo" in words(tab)
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", {"value": False})
    client = stack.client()
    stack.wait_until("it is back", lambda: len(list(client.receipts(outcome="unmatched"))) == 3)


def test_what_takes_several_steps_goes_on_by_itself(tab: Tab, stack: Stack, parking: Sequence[str]) -> None:
    visit(tab, stack.url + parking[0])
    form = '<form action="/ops/audit" data-go-on="0.1"></form>'
    with tab.leaving():
        tab.run(f"document.querySelector('main').insertAdjacentHTML('beforeend', {json.dumps(form)}); goOn(); 0")
    assert tab.run("location.pathname") == "/ops/audit"


def test_a_page_that_is_late_asks_less_and_less_often_and_fills_in(tab: Tab, stack: Stack, talk: Talk) -> None:
    with psycopg.connect(plain_url(stack.database_url)) as holding:
        holding.execute("LOCK TABLE messages")
        tab.open(stack.url + talk.message)
        assert "Still looking" in words(tab)
        until(tab, "gap === 6")
        assert "Still looking" in words(tab)
    until(tab, "document.querySelector('.verdict')")


def test_a_conversation_says_that_something_has_come(tab: Tab, stack: Stack, talk: Talk) -> None:
    visit(tab, stack.url + talk.conversation)
    send(stack, NUMBER, "One more")
    until(tab, "document.querySelector('#now').innerText.includes('Something has come')")
    tab.follow("document.querySelector('#now a').click()")
    assert "Something has come" not in words(tab)


def test_what_nobody_knows_is_settled_in_two_steps(tab: Tab, stack: Stack, talk: Talk) -> None:
    visit(tab, stack.url + talk.unknown)
    tab.run("document.querySelector('#resolve-status').value = 'undelivered'")
    tab.fill("#resolve-reason", "seen in the portal")
    tab.follow("document.querySelector('button[value=resolve]').click()")
    assert tab.run("location.pathname") == talk.unknown
    assert "undelivered" in words(tab, ".verdict")
    assert "key demo resolve to undelivered seen in the portal" in words(tab)


def test_a_session_that_has_ended_leads_to_the_sign_in(stack: Stack, talk: Talk, tmp_path: Path) -> None:
    with browser.started(tmp_path) as other:
        other.open(f"{stack.url}/ops/sign-in")
        other.fill("#secret", stack.api_key)
        other.follow("document.querySelector('form.fields').requestSubmit()")
        visit(other, stack.url + talk.unknown)
        other.run("fetch('/ops/sign-out', { method: 'POST', redirect: 'manual' }).then(() => 0)")
        other.follow("document.querySelector('.verdict a').click()")
        assert other.run("location.pathname") == "/ops/sign-in"


def test_no_page_complained_or_asked_another_host_and_no_log_names_anybody(tab: Tab, stack: Stack, talk: Talk) -> None:
    visit(tab, stack.url + talk.message)
    known = "status of 404", "status of 503"  # one was asked for above; a page that is late says so, and fills in
    assert [each for each in tab.complaints() if not any(part in each for part in known)] == []
    ours = f"{stack.url}/ops", "data:"  # the browser draws its own fields with such
    assert [each for each in tab.requested() if not each.startswith(ours)] == []
    for name in ("web", "worker"):
        log = (stack.folder / f"{name}.log").read_text()
        for secret in (NUMBER, LATE, LOST, "7700900", "parcel", "order/7", "order%2F7"):
            assert secret not in log
