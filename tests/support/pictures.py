"""`make pictures`: the pictures of the ops page in the docs, made anew from the demo's conversation, and counts.

The numbers in it are Ofcom's for drama (077009 00000 to 00999): they are nobody's.
"""

import base64
import random
import sys
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path

from receiptsvc.demo.processes import Stack
from receiptsvc.demo.story import play
from receiptsvc.locations import PROJECT
from receiptsvc.store.core.db import Database
from receiptsvc.store.health import minutes
from receiptsvc.store.inbox import counters
from receiptsvc.store.messages import hourly_counts
from receiptsvc.store.messages.hourly_counts import CountKey
from tests.support import browser, databases
from tests.support.browser import Tab

_FOLDER = PROJECT / "docs" / "pictures"
_REFERENCE = "order-7"
_SHARES = {"delivered": 0.93, "undelivered": 0.04, "expired": 0.02, "rejected": 0.01}
_SHOW = "document.querySelector('button[value=reveal]').click()"


def main() -> None:
    """Write every picture. Ends with 1 where there is no browser."""
    if browser.find() is None:
        sys.exit("there is no Chromium: apt-get install chromium")
    _FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="receiptsvc-pictures-") as scratch:
        url = f"sqlite:///{scratch}/pictures.db"
        databases.migrate(url)
        _make_counts(url)
        with Stack(Path(scratch) / "stack", url) as stack, browser.started(Path(scratch) / "browser") as tab:
            stack.start_all()
            play(stack, reference=_REFERENCE, show=lambda *_: None)
            _take_all(stack, tab)


def _make_counts(url: str) -> None:
    """Counts of a month, as a service in use has them: the demo's few messages would draw nothing."""
    database, chance = Database(url), random.Random(7)
    now = database.clock.now()
    hours = [hourly_counts.hour_of(now) - timedelta(hours=back) for back in range(24 * 30)]
    counts: Counter[CountKey] = Counter()
    for hour in hours:
        accepted = chance.randint(300, 900)
        for status, share in _SHARES.items():
            counts[CountKey(hour, "messages", "", status)] = int(share * accepted)
        counts[CountKey(hour, "delays", "", hourly_counts.delay_class(4))] = 100
    with database.transaction() as session:
        hourly_counts.add(session, counts)
    for back in range(61, -1, -1):
        at, sent = minutes.minute_of(now - back * minutes.MINUTE), chance.randint(5, 15)
        reports = {f"{status}//1": int(share * sent) for status, share in _SHARES.items()}
        codes = {CountKey(hourly_counts.hour_of(at), "codes", "", label): count for label, count in reports.items()}
        with database.transaction() as session:
            counters.add(session, {counters.TAKEN: sent})
            counters.add_answers(session, {0.005: sent})
            hourly_counts.add(session, Counter(codes))
            minutes.keep(session, at)
    database.close()


def _take_all(stack: Stack, tab: Tab) -> None:
    tab.resize(1100, 800)
    tab.open(f"{stack.url}/ops/sign-in")
    tab.fill("#secret", stack.api_key)
    tab.follow("document.querySelector('form.fields').requestSubmit()")
    tab.resize(1200, 1400)
    tab.open(f"{stack.url}/ops")
    tab.run("new Promise((done) => setTimeout(done, 4000))")  # until it is live
    _take(tab, "now.png")
    tab.resize(1100, 800)
    client = stack.client()
    message = next(item for item in client.messages(clientRef=_REFERENCE) if item["status"] == "delivered")
    conversation_id = client.message(message["id"])["conversationId"]
    tab.open(f"{stack.url}/ops/messages/{message['id']}")
    _take(tab, "message.png")
    tab.open(f"{stack.url}/ops/conversations/{conversation_id}")
    tab.follow(_SHOW)
    _take(tab, "conversation.png")
    tab.prefer("dark")
    tab.resize(390, 800)
    _take(tab, "conversation-phone-dark.png")


def _take(tab: Tab, name: str) -> None:
    """Write what is seen without scrolling."""
    data = tab.call("Page.captureScreenshot", {"format": "png"})["data"]
    (_FOLDER / name).write_bytes(base64.b64decode(data))


if __name__ == "__main__":
    main()
