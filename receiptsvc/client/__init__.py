"""A small client of the API over HTTP: the base of the command line, and an example for other programs.

    client = Client.from_env()
    [item] = client.send([{"recipients": ["447700900000"], "text": "Hello"}])
    for message in client.messages(status="undelivered"): ...

It knows the API's addresses and errors, and nothing of the store, the gateway or the terminal. docs/api.md documents
the fields of its objects and the filters. What may be a person's (a number, a text, a clientRef) it sends in a body,
never in a URL, which routers log.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias
from urllib.parse import quote

from receiptsvc.client import environment
from receiptsvc.client.wire import ApiError, Event, Json, Unreachable, Wire, as_members, objects

__all__ = ["ApiError", "Client", "Event", "Json", "Unreachable"]

_MAX_TERMS = 500  # in one lookup

_Names: TypeAlias = Literal["ids", "clientRefs", "transactionIDs"]


class Client(Wire):
    """A client of one service with one key. Not thread-safe.

    Every method raises ApiError if the service refuses, and Unreachable if no answer comes within `timeout_seconds`.
    """

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Client":
        """A client for the service and key that the environment names. Raises SettingsError."""
        access = environment.read(os.environ if environ is None else environ)
        return cls(access.url, access.key, url_source=access.url_source, key_source=access.key_source)

    def send(
        self, messages: Sequence[Json], idempotency_key: str | None = None, *, dry_run: bool = False
    ) -> list[Json]:
        """The same as `submit`, but returns only the items."""
        items: list[Json] = self.submit(messages, idempotency_key, dry_run=dry_run)["messages"]
        return items

    def submit(self, messages: Sequence[Json], idempotency_key: str | None = None, *, dry_run: bool = False) -> Json:
        """Send messages, all or none of them. Returns `messages`, one item for each recipient, and `warnings`.

        With an `idempotency_key` the messages go out once, however often this is called: each call returns the same
        items with their present statuses. `dry_run`: only return what would be sent and what it would cost.
        """
        answer = self.call(
            "POST",
            "/v1/messages",
            {"dryRun": "true"} if dry_run else None,
            body={"messages": list(messages)},
            headers={"Idempotency-Key": idempotency_key} if idempotency_key is not None else None,
        )
        items = objects(answer, "messages")
        if dry_run and any("id" in item for item in items):
            raise ApiError(202, "the service is older than this client, has no dry run, and has taken the messages")
        return answer

    def message(self, message_id: str) -> Json:
        """One message with its transitions; with very many, only some of them: see `transitions`."""
        return self.call("GET", f"/v1/messages/{_quote(message_id)}")

    def transitions(self, message_id: str, **filters: str) -> Iterator[Json]:
        """All transitions of a message, in the order recorded. Requests further pages as needed."""
        yield from self.listed(f"/v1/messages/{_quote(message_id)}/transitions", filters)

    def explain(self, message_id: str) -> Json:
        """Why a message has its status."""
        return self.call("GET", f"/v1/messages/{_quote(message_id)}/explain")

    def messages(self, **filters: str) -> Iterator[Json]:
        """The messages that fit every filter, the newest first. Requests further pages as needed."""
        yield from self.listed("/v1/messages/query", filters, method="POST")

    def lookup(self, terms: Sequence[str], by: _Names = "ids") -> Iterator[Json]:
        """The messages with these ids, clientRefs or transactionIDs, in no order. Of a clientRef only the newest."""
        for start in range(0, len(terms), _MAX_TERMS):
            some = list(terms[start : start + _MAX_TERMS])
            yield from objects(self.call("POST", "/v1/messages/lookup", body={by: some}), "items")

    def search(self, term: str) -> list[Json]:
        """Everything that a term may mean, the surest first, each with its kind (`as`), its `url` and some messages."""
        return objects(self.call("POST", "/v1/search", body={"q": term}), "items")

    def cancel(self, message_id: str, reason: str | None = None) -> Json:
        """Cancel a message that was not given to the gateway. ApiError 409: it is too late."""
        return self.call("POST", f"/v1/messages/{_quote(message_id)}/cancel", body=_without_none(reason=reason))

    def cancel_all(self, *, dry_run: bool = False, **filters: str | bool) -> Json:
        """Cancel the messages that fit every filter and were not given to the gateway; or only count them.

        Some thousands a call: repeat until the answer's `isComplete` is true.
        """
        return self.call("POST", "/v1/messages/cancel", body={**filters, "dryRun": dry_run})

    def resolve(self, message_id: str, status: str, reason: str) -> Json:
        """Settle a message that is send_unknown. A receipt that comes later still wins."""
        body = {"status": status, "reason": reason}
        return self.call("POST", f"/v1/messages/{_quote(message_id)}/resolve", body=body)

    def sending(self) -> Json:
        """Whether messages go out, and what holds them."""
        return self.call("GET", "/v1/sending")

    def pause(self, reason: str) -> Json:
        """Give nothing to the gateway until `resume`."""
        return self.call("POST", "/v1/sending/pause", body={"reason": reason})

    def resume(self, reason: str | None = None) -> Json:
        """Let messages go out again."""
        return self.call("POST", "/v1/sending/resume", body=_without_none(reason=reason))

    def suppressions(self, **filters: str) -> Iterator[Json]:
        """The suppressions that fit every filter."""
        yield from self.listed("/v1/suppressions/query", filters, method="POST")

    def suppress(self, recipient: str, originator: str | None = None, reason: str | None = None) -> Json:
        """Suppress a sender's messages to a person. Without `originator`: those of the account's own number."""
        body = _without_none(recipient=recipient, originator=originator, reason=reason)
        return self.call("POST", "/v1/suppressions", body=body)

    def allow(self, recipient: str, originator: str | None = None, reason: str | None = None) -> Json:
        """Remove a suppression. ApiError 404: there is none."""
        body = _without_none(recipient=recipient, originator=originator, reason=reason)
        return self.call("POST", "/v1/suppressions/remove", body=body)

    def audit(self, **filters: str) -> Iterator[Json]:
        """Who did what that fits every filter, the newest first. For a key with the scope `ops`."""
        yield from self.listed("/v1/audit/query", filters, method="POST")

    def problems(self, **filters: str) -> list[Json]:
        """What needs attention, by cause: what is open or acknowledged, unless `state` says otherwise.

        For a key with the scope `ops`, as the next four.
        """
        return objects(self.call("GET", "/v1/problems", filters), "items")

    def problem(self, problem_id: str) -> Json:
        """One problem with some of its rows, and what was done about it."""
        return self.call("GET", f"/v1/problems/{_quote(problem_id)}")

    def acknowledge_problem(self, problem_id: str, reason: str | None = None) -> Json:
        """Say that somebody works on a problem. ApiError 409: it is not open."""
        return self._change_problem(problem_id, "acknowledge", reason)

    def resolve_problem(self, problem_id: str, reason: str | None = None) -> Json:
        """Say that a problem is settled; it reopens by itself when it is seen again. ApiError 409: it is resolved."""
        return self._change_problem(problem_id, "resolve", reason)

    def reopen_problem(self, problem_id: str, reason: str | None = None) -> Json:
        """Take back that a problem was acknowledged or resolved. ApiError 409: it is open."""
        return self._change_problem(problem_id, "reopen", reason)

    def receipts(self, **filters: str) -> Iterator[Json]:
        """The ledger's rows that fit every filter, the newest first."""
        yield from self.listed("/v1/receipts/query", filters, method="POST")

    def receipt(self, receipt_id: str) -> Json:
        """One receipt as it came, with its transition and what was done to it."""
        return self.call("GET", f"/v1/receipts/{_quote(receipt_id)}")

    def match(
        self, receipt_id: str, message_id: str, reason: str | None = None, *, any_recipient: bool = False
    ) -> Json:
        """Match a receipt to a message; with `any_recipient` also if it names another number than that went to."""
        body: dict[str, object] = {**_without_none(message=message_id, reason=reason)}
        body |= {"anyRecipient": True} if any_recipient else {}
        return self.call("POST", f"/v1/receipts/{_quote(receipt_id)}/match", body=body)

    def retry(self, receipt_id: str, reason: str | None = None) -> Json:
        """Process a receipt again."""
        return self.call("POST", f"/v1/receipts/{_quote(receipt_id)}/retry", body=_without_none(reason=reason))

    def dismiss(self, receipt_id: str, reason: str) -> Json:
        """Dismiss a receipt. It is kept, but not processed any more."""
        return self.call("POST", f"/v1/receipts/{_quote(receipt_id)}/dismiss", body={"reason": reason})

    def restore(self, receipt_id: str, reason: str | None = None) -> Json:
        """Take the dismissal of a receipt back."""
        return self.call("POST", f"/v1/receipts/{_quote(receipt_id)}/restore", body=_without_none(reason=reason))

    def dismiss_all(self, **selection: object) -> Json:
        """Dismiss many receipts: a bounded number in one call, with `nextCursor` to continue."""
        return self.call("POST", "/v1/receipts/dismiss", body=selection)

    def replay(self, **selection: object) -> Json:
        """Process many receipts again: a bounded number in one call, with `nextCursor` to continue."""
        return self.call("POST", "/v1/receipts/replay", body=selection)

    def transaction(self, transaction_id: str) -> Json:
        """The messages of a transactionID, with their transitions."""
        return self.call("GET", f"/v1/transactions/{_quote(transaction_id)}")

    def conversations(self, **filters: str) -> Iterator[Json]:
        """All conversations, the most recently active first."""
        yield from self.listed("/v1/conversations/query", filters, method="POST")

    def timeline(self, reference: str, **filters: str) -> Iterator[Json]:
        """The timeline of a conversation (by its clientRef or `cnv_` id), the earliest first."""
        filters = {"clientRef": reference, **filters}
        yield from self.listed("/v1/conversations/query", filters, name="timeline", method="POST")

    def recipient(self, number: str, **filters: str) -> Iterator[Json]:
        """Every message to and every reply from a person, the newest first. ApiError 404: there is none."""
        yield from self.listed("/v1/recipients/query", {"number": number, **filters}, method="POST")

    def person(self, number: str, **filters: str) -> Json:
        """A page of what `recipient` gives, with the receipts that name the number and fit no message."""
        return self.call("POST", "/v1/recipients/query", body=as_members({"number": number, **filters}))

    def replies(self, **filters: str) -> Iterator[Json]:
        """The replies that fit every filter, the newest first."""
        yield from self.listed("/v1/inbound/query", filters, method="POST")

    def statistics(self, **filters: str) -> Json:
        """Messages by status, their delivery rate and times, and receipts, by hour or day."""
        return self.call("GET", "/v1/stats", filters)

    def failures(self, **filters: str) -> Json:
        """Which numbers failed most, counted from a bounded number of messages."""
        return self.call("GET", "/v1/stats/failures", filters)

    def breakdown(self, by: str, **filters: str) -> Json:
        """Messages by `originator`, `country`, `prefix`, receipts by `providerStatusId`, or failures by `reason`."""
        return self.call("GET", "/v1/stats/breakdown", {"by": by, **filters})

    def overdue(self, older_than_seconds: int = 3600) -> Json:
        """Messages that should have a final receipt by now."""
        return self.call("GET", "/v1/stats/overdue", {"olderThan": str(older_than_seconds)})

    def conversation(self, reference: str) -> Json:
        """A conversation by its clientRef or `cnv_` id, with its whole timeline."""
        pages = self.pages("/v1/conversations/query", {"clientRef": reference}, method="POST")
        conversation = next(pages)
        timeline = objects(conversation, "timeline")
        for page in pages:
            timeline += objects(page, "timeline")
        return {**conversation, "timeline": timeline, "nextCursor": None}

    def events(self, last_event_id: str | None = None, **filters: str) -> Iterator[Event]:
        """The events that fit every filter, from now on or after the event with this id.

        It never ends: when the stream is cut, it reconnects after the last event it gave. Store an event's id once you
        have handled it. Unreachable: only at the first try. ApiError 410, also after a long outage: not every event
        after the last one is kept. Then call it again without an id, and read the present state by `messages` with
        changedSince and by `replies`.
        """
        yield from self.follow("/v1/events", last_event_id, filters)

    def export(self, table: str, form: str, **filters: str) -> Iterator[bytes]:
        """The `messages` or `transitions` of all messages that fit every filter, as a file in pieces: `csv` or `jsonl`.

        It may be of any length. Unreachable: it broke off, and what came before is not all.
        """
        media = {"csv": "text/csv", "jsonl": "application/jsonl"}[form]
        yield from self.download(f"/v1/export/{table}.{form}", filters, media)

    def ledger(self) -> Json:
        """How many receipts were kept, and how many have which outcome."""
        return self.call("GET", "/v1/ledger")

    def _change_problem(self, problem_id: str, action: str, reason: str | None) -> Json:
        return self.call("POST", f"/v1/problems/{_quote(problem_id)}/{action}", body=_without_none(reason=reason))


def _quote(segment: str) -> str:
    return quote(segment, safe="")


def _without_none(**members: str | None) -> Json:
    return {name: value for name, value in members.items() if value is not None}
