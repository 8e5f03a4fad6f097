"""`make bench-pages`: how long the pages of /ops take, in the web process and in a browser.

One database on PostgreSQL with `--scale` messages, half of them in conversations of 1,000 with one number each, and
receipts that fit no message. The Procfile's web process serves each kind of page for one object after the other.
Then a browser loads the page as somebody does who has just signed in, and at last the database is frozen.
"""

import random
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from secrets import randbelow
from statistics import median
from time import perf_counter
from typing import NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

import click
import psycopg

from benchmarks import frozen, live, machine, measures, runs, samples, seeded
from benchmarks.looks import Looks
from benchmarks.samples import Sample
from benchmarks.tools import BenchError, need
from receiptsvc import ids, tokens
from receiptsvc.config import Settings
from receiptsvc.demo.processes import Stack, answers, local_session
from receiptsvc.store.core.db import plain_url
from receiptsvc.web.ops.failure_rows import Part
from tests.support import browser

_PARKED = 500  # receipts that fit no message
_TRANSACTION = f"99{randbelow(10**6):06}"  # of them: those of a kept database's last run were adopted since
_WARM_ROUNDS = 10
_FROZEN_ROUNDS = 3
_TIMEOUT_SECONDS = 30
_FURTHER = re.compile(r'href="(\?(?:after|before)=[^"]+)"')
_PROBLEM = re.compile(r"prb_[0-9a-z]{26}")
_CODE = re.compile(r"(?<=ops/codes/)rcp_\w+")


class Page(NamedTuple):
    """An answer. `path`: what was asked for. `location`: where a redirect leads."""

    path: str
    status: int
    seconds: float
    location: str
    text: str


Timed = Iterator[tuple[str, Page]]  # pages with what kind each is


class Visitor:
    """Who has signed in with a key, over one kept connection."""

    def __init__(self, stack: Stack) -> None:
        parts = urlsplit(stack.url)
        self._connection = HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)
        self._headers = {"Sec-Fetch-Site": "same-origin"}
        self.post("/ops/sign-in", secret=stack.api_key)

    def get(self, path: str) -> Page:
        """Open a page."""
        return self._ask("GET", path)

    def post(self, path: str, **form: str) -> Page:
        """Send a form."""
        return self._ask("POST", path, form)

    @property
    def headers(self) -> Mapping[str, str]:
        """What each request has: the session's cookie among it."""
        return self._headers

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        self._connection.close()

    def _ask(self, method: str, path: str, form: Mapping[str, str] | None = None) -> Page:
        headers = dict(self._headers)
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        started = perf_counter()
        self._connection.request(method, path, urlencode(form) if form is not None else None, headers)
        with self._connection.getresponse() as response:
            text = response.read().decode(errors="replace")
        seconds = perf_counter() - started
        cookie = response.headers.get("Set-Cookie")
        if cookie is not None:
            self._headers["Cookie"] = cookie.partition(";")[0]
        return Page(path, response.status, seconds, urljoin(path, response.headers.get("Location", "")), text)


@click.command()
@click.option("--scale", type=click.IntRange(5000), default=1_000_000, help="How many messages there are (1,000,000).")
@click.option("--requests", type=click.IntRange(1), default=200, help="How many objects each page is asked for (200).")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="A folder that keeps the database.")
def main(scale: int, requests: int, keep: Path | None) -> None:
    """Measure the pages of /ops, on an embedded PostgreSQL. With `--keep` the next run finds its rows already made."""
    with runs.bench("pages"):
        values, facts = measure(scale, requests, keep)
    runs.report("pages", values, facts)


def measure(scale: int, requests: int, keep: Path | None) -> tuple[dict[str, float], dict[str, str]]:
    """Make all measurements, one after the other; returns values and facts by name. Raises ReceiptsvcError."""
    if browser.find() is None:
        need("chromium", "chromium")
    with tempfile.TemporaryDirectory(prefix="receiptsvc-bench-") as scratch, seeded.database(scale, keep) as url:
        folder = Path(scratch)
        facts = runs.facts(folder) | machine.postgresql(plain_url(url))
        facts["processors busy with other things"] = f"{machine.busy_share():.0%}"
        facts["messages"] = f"{scale:,}"
        with Stack(folder / "stack", url) as stack:
            stack.start("web")
            stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
            chosen = samples.read(url)
            parked = _park(stack, url, chosen)
            visitor = Visitor(stack)
            values = _measure_pages(visitor, chosen, parked, requests, facts)
            with browser.started(folder / "browser") as tab:
                values |= Looks(stack, tab, [each for each in chosen if _is_long(each)]).measure(facts)
            values |= live.measure(stack, url, visitor.headers, facts)
            values |= _measure_frozen(visitor, url, chosen, facts)
    return values, facts


def _park(stack: Stack, url: str, chosen: Sequence[Sample]) -> list[str]:
    """Have receipts come that fit no message but name somebody, and a worker park them. Returns some of their ids."""
    runs.say("parking receipts")
    address = tokens.static_urls(Settings.from_env(stack.environ)).receipts
    with local_session() as session:
        for number in range(_PARKED):
            recipient = chosen[number % len(chosen)].recipient
            report = {"recipient": recipient, "statusid": "1", "statusdescription": "Delivered"}
            at = {"datetime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}", "transactionid": f"{_TRANSACTION}{number:04}"}
            session.get(address, params=report | at, timeout=_TIMEOUT_SECONDS).raise_for_status()
    stack.start("worker")
    with psycopg.connect(plain_url(url), autocommit=True) as connection:
        pending = "SELECT 1 FROM pending LIMIT 1"
        stack.wait_until("the receipts are parked", lambda: connection.execute(pending).fetchone() is None)
        rows = connection.execute("SELECT receipt_id FROM parked LIMIT 300").fetchall()
    stack.stop("worker")
    if not rows:
        raise BenchError("no receipt was parked")
    return [ids.public("rcp", receipt_id) for (receipt_id,) in rows]


def _measure_pages(
    visitor: Visitor, chosen: Sequence[Sample], parked: Sequence[str], count: int, facts: dict[str, str]
) -> dict[str, float]:
    """Every kind of page for one object after the other. What counts is the slowest kind."""
    seconds: dict[str, list[float]] = {}
    late = 0
    long = [each for each in chosen if _is_long(each)]
    pairs = [each for each in chosen if not _is_long(each)]
    for number in range(_WARM_ROUNDS + count):
        if number in {0, _WARM_ROUNDS}:
            runs.say("pages: asking" if number else "pages: warming up")
        for kind, page in _ask_all(visitor, (random.choice(long), random.choice(pairs)), random.choice(parked)):  # noqa: S311
            if page.status not in {200, 303, 503}:
                raise BenchError(f"{kind} was answered {page.status}")
            if number >= _WARM_ROUNDS:
                seconds.setdefault(kind, []).append(page.seconds)
                late += page.status == 503
    for kind, durations in seconds.items():
        middle, p95, p99 = (measures.percentile(durations, share) * 1000 for share in (0.5, 0.95, 0.99))
        facts[f"p50; p95; p99 of {kind}"] = f"{middle:.1f}; {p95:.1f}; {p99:.1f} ms"
    values = {}
    for name, share in (("p95", 0.95), ("p99", 0.99)):
        by_kind = {kind: measures.percentile(durations, share) * 1000 for kind, durations in seconds.items()}
        slowest = max(by_kind, key=by_kind.__getitem__)
        facts[f"the slowest by its {name}"] = slowest
        values[f"pages_{name}_ms"] = by_kind[slowest]
    return values | {"pages_asked": sum(map(len, seconds.values())), "pages_late": late}


def _ask_all(visitor: Visitor, about: tuple[Sample, Sample], parked: str) -> Timed:
    """Every kind of page once. `about`: a message of a conversation of 1,000, and one of a conversation of two."""
    long, pair = about
    yield "now, the first page", visitor.get("/ops")
    yield "sessions", visitor.get("/ops/sessions")
    for name in ("sending", "settings", "cancel", "batches"):
        yield name, visitor.get(f"/ops/{name}")
    yield from _look_at_batches(visitor, pair)
    yield from _search(visitor, long, pair, parked)
    yield from _read_lists(visitor, pair)
    yield from _read_failures(visitor)
    yield from _read_codes(visitor)
    yield from _read_parking_lot(visitor, pair)
    for name, sample in (("long", long), ("short", pair)):
        yield from _show(visitor, f"message, {name} conversation", f"/ops/messages/{sample.id}")
        opened = visitor.post("/ops/people", of=sample.id)
        yield "open a person", opened
        yield from _show(visitor, f"person, {name} conversation", opened.location)
    first, revealed = _show(visitor, "conversation of 1,000", f"/ops/conversations/{long.conversation_id}")
    yield from (first, revealed)
    yield from _go_further(visitor, "conversation of 1,000, earlier", first[1])
    yield from _show(visitor, "conversation of 2", f"/ops/conversations/{pair.conversation_id}")
    receipt_id = long.receipt_id or pair.receipt_id
    if receipt_id is not None:
        yield from _show(visitor, "receipt", f"/ops/receipts/{receipt_id}")
    yield from _show(visitor, "parked receipt", f"/ops/receipts/{parked}")


def _look_at_batches(visitor: Visitor, sample: Sample) -> Timed:
    """A batch by each kind of key, and a preview of what could be cancelled, of which there is nothing."""
    for name, term in (("a message", sample.id), ("the beginning of a clientRef", sample.client_ref[:-1])):
        opened = visitor.post("/ops/batches", q=term)
        yield f"open a batch by {name}", opened
        yield f"batch by {name}", visitor.get(opened.location)
    yield "find what to cancel", visitor.post("/ops/cancel", clientRef=sample.client_ref)


def _search(visitor: Visitor, long: Sample, pair: Sample, parked: str) -> Timed:
    """The box, for each kind of key, and where it leads."""
    terms = {
        "number": long.recipient,
        "number as inside the country": f"0{pair.recipient[2:]}",
        "last digits": _ending(pair, 6),
        "last four digits": _ending(pair, 4),
        "clientRef": pair.client_ref,
        "clientRef of 1,000": long.client_ref,
        "beginning of a clientRef": long.client_ref[:-1],
        "transactionID": pair.transaction_id,
        "parked transactionID": f"{_TRANSACTION}0007",
        "messageGuid": pair.message_guid,
        "message id": pair.id,
        "conversation id": long.conversation_id,
        "receipt id": parked,
        "nothing": "nothing-like-it",
    }
    for name, term in terms.items():
        asked = visitor.post("/ops/search", q=term)
        yield f"search by {name}", asked
        if asked.status == 303:
            yield f"found by {name}", visitor.get(asked.location)


def _read_lists(visitor: Visitor, sample: Sample) -> Timed:
    """Lists, by each filter, and further back."""
    now = datetime.now(UTC)
    week = {name: f"{now - timedelta(days=days):%Y-%m-%dT%H:%M}" for name, days in (("since", 9), ("until", 2))}
    filters: dict[str, dict[str, str]] = {
        "a status": {"status": "delivered"},
        "a rare status": {"status": "expired"},
        "an absent status": {"status": "cancelled"},
        "a sender": {"originator": "ACME"},
        "an absent sender": {"originator": "NOBODY"},
        "a week": week,
        "a status in a week": {"status": "undelivered", **week},
        "a sender and an absent status": {"originator": "ACME", "status": "cancelled"},
        "a number": {"number": f"+{sample.recipient}"},
        "last digits": {"number": _ending(sample, 5)},
        "a clientRef": {"clientRef": sample.client_ref},
    }
    for name, path in (("messages", "/ops/messages"), ("replies", "/ops/replies")):
        newest = visitor.get(path)
        yield f"list of {name}", newest
        yield from _go_further(visitor, f"list of {name}, further", newest)
    yield from _show(visitor, "problems", "/ops/problems")
    found = _PROBLEM.search(visitor.get("/ops/problems").text)
    if found is not None:
        yield from _show(visitor, "problem", f"/ops/problems/{found[0]}")
    for name, form in filters.items():
        asked = visitor.post("/ops/messages", **form)
        yield "narrow messages down", asked
        listed = visitor.get(asked.location)
        yield f"messages by {name}", listed
        yield from _go_further(visitor, f"messages by {name}, further", listed)


def _read_failures(visitor: Visitor) -> Timed:
    """Failures by each part, over a day and over a month, and the messages of some parts."""
    for period in ("yesterday", "30d"):
        for part in Part:
            yield f"failures by {part}, {period}", visitor.get(f"/ops/failures?range={period}&by={part}")
        yield f"failures as CSV, {period}", visitor.get(f"/ops/failures.csv?range={period}&by=prefix")
    now = datetime.now(UTC)
    month = {"since": f"{now - timedelta(days=30):%Y-%m-%dT%H:%M}", "until": f"{now:%Y-%m-%dT%H:%M}"}
    keys = {
        "a country": {"calling_code": "44"},
        "an absent country": {"calling_code": "33"},
        "a code": {"status_id": "3"},
    }
    for name, key in keys.items():
        asked = visitor.post("/ops/failures/messages", **month, **key)
        yield "open failed messages", asked
        listed = visitor.get(asked.location)
        yield f"failed messages by {name}", listed
        yield from _go_further(visitor, f"failed messages by {name}, further", listed)


def _read_codes(visitor: Visitor) -> Timed:
    """All codes, and what if one of them meant something else."""
    yield "codes", visitor.get("/ops/codes")
    found = _CODE.search(visitor.get("/ops/codes").text)
    if found is not None:
        yield "what if a code meant another status", visitor.get(f"/ops/codes/{found[0]}?status=expired")


def _read_parking_lot(visitor: Visitor, sample: Sample) -> Timed:
    """The parking lot, by each filter, and the preview of what would be done to all that one finds."""
    filters: dict[str, dict[str, str]] = {
        "an outcome": {"outcome": "unmatched"},
        "an absent outcome": {"outcome": "dead"},
        "a code": {"providerStatusId": "1"},
        "a description": {"providerDescription": "Delivered"},
        "an address": {"channel": "message"},
        "a number": {"number": f"+{sample.recipient}"},
        "a clientRef": {"clientRef": sample.client_ref},
    }
    newest = visitor.get("/ops/receipts")
    yield "parking lot", newest
    yield from _go_further(visitor, "parking lot, further", newest)
    yield "refused callbacks", visitor.get("/ops/receipts/refused")
    for name, form in filters.items():
        asked = visitor.post("/ops/receipts", **form)
        yield "narrow receipts down", asked
        yield f"receipts by {name}", visitor.get(asked.location)
    chosen = visitor.post("/ops/receipts", action="preview", which="all", do="retry")
    yield "choose all receipts", chosen
    yield "preview of all receipts", visitor.get(chosen.location)


def _show(visitor: Visitor, kind: str, path: str) -> Timed:
    """A page, and the same with numbers and texts."""
    yield kind, visitor.get(path)
    yield f"{kind}, revealed", visitor.post(path, action="reveal")


def _go_further(visitor: Visitor, kind: str, page: Page) -> Timed:
    """The next page of a list, if it has one."""
    found = _FURTHER.search(page.text)
    if found is not None:
        yield kind, visitor.get(urljoin(page.path, found[1]))


def _measure_frozen(visitor: Visitor, url: str, chosen: Sequence[Sample], facts: dict[str, str]) -> dict[str, float]:
    """The slowest page while the database says nothing, and how soon pages are back."""
    runs.say("pages: the database is frozen")
    paths = [
        "/ops",
        "/ops/messages",
        f"/ops/messages/{chosen[0].id}",
        f"/ops/conversations/{chosen[0].conversation_id}",
    ]
    durations = []
    with frozen.postgresql(url):
        for path in paths * _FROZEN_ROUNDS:
            visitor.close()  # so that both processes are asked
            page = visitor.get(path)
            if page.status != 503:
                raise BenchError(f"{path} was answered {page.status} while the database was frozen")
            durations.append(page.seconds)
    started = perf_counter()
    while visitor.get("/ops").status != 200:
        if perf_counter() - started > _TIMEOUT_SECONDS:
            raise BenchError("the pages did not come back with the database")
    facts["pages while the database is frozen, median"] = f"{median(durations):.2f} s"
    facts["back after"] = f"{perf_counter() - started:.2f} s"
    return {"frozen_page_seconds": max(durations)}


def _ending(sample: Sample, least: int) -> str:
    """A number's last digits; as many that none is taken for a prefix to another country, or inside one."""
    return next(each for start in range(-least, -12, -1) if (each := sample.recipient[start:])[0] != "0")


def _is_long(sample: Sample) -> bool:
    """Whether a message is of a conversation of 1,000."""
    return not sample.client_ref.endswith("b")


if __name__ == "__main__":
    main()
