"""A small client of the API over HTTP: what the command line stands on, and a sample for other programs.

    client = Client.from_env()
    [item] = client.send([{"recipients": ["447700900000"], "text": "Hello"}])
    for message in client.messages(status="undelivered"): ...

It knows the API's addresses and errors, and nothing of the store, the gateway or the screen. What its objects hold, and
which filters there are, docs/api.md tells.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias
from urllib.parse import quote

from receiptsvc.client import environment
from receiptsvc.client.wire import ApiError, Event, Json, Unreachable, Wire, objects

__all__ = ["ApiError", "Client", "Event", "Json", "Unreachable"]

_MAX_LOOKED_UP = 500  # terms in one call

_Names: TypeAlias = Literal["ids", "clientRefs", "transactionIDs"]


class Client(Wire):
    """A way to one service with one key. Not for use by several threads at once.

    Every method raises ApiError if the service refuses, and Unreachable if no answer comes within `timeout_seconds`.
    """

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Client":
        """The client that the environment describes. Raises SettingsError."""
        return cls(*environment.read(os.environ if environ is None else environ))

    def send(
        self, messages: Sequence[Json], idempotency_key: str | None = None, *, dry_run: bool = False
    ) -> list[Json]:
        """What `submit` does, giving the items only."""
        items: list[Json] = self.submit(messages, idempotency_key, dry_run=dry_run)["messages"]
        return items

    def submit(self, messages: Sequence[Json], idempotency_key: str | None = None, *, dry_run: bool = False) -> Json:
        """Send messages, all or none of them: `messages` has one item for each recipient, `warnings` who was left out.

        With the same `idempotency_key` the same messages go out once, however often this is called: each call gives
        the same items, with their present statuses. `dry_run`: only tell what would be sent, and what it would cost.
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
            raise ApiError(202, "it is older than this client, knows no dry run, and has taken the messages")
        return answer

    def message(self, message_id: str) -> Json:
        """One message with its transitions."""
        return self.call("GET", f"/v1/messages/{_segment(message_id)}")

    def explain(self, message_id: str) -> Json:
        """Why a message has its status."""
        return self.call("GET", f"/v1/messages/{_segment(message_id)}/explain")

    def messages(self, **filters: str) -> Iterator[Json]:
        """The messages that every filter fits, the newest first; asks for more pages as it goes."""
        yield from self.listed("/v1/messages", filters)

    def lookup(self, terms: Sequence[str], by: _Names = "ids") -> Iterator[Json]:
        """The messages that these terms name, in no order; what names none is left out. Of a clientRef the newest."""
        for start in range(0, len(terms), _MAX_LOOKED_UP):
            some = list(terms[start : start + _MAX_LOOKED_UP])
            yield from objects(self.call("POST", "/v1/messages/lookup", body={by: some}), "items")

    def search(self, term: str) -> list[Json]:
        """Everything that a term may mean, the surest first: each with its kind (`as`), its `url` and some messages."""
        return objects(self.call("GET", "/v1/search", {"q": term}), "items")

    def cancel(self, message_id: str, reason: str | None = None) -> Json:
        """Cancel a message that was not given to the gateway. ApiError 409: it is too late."""
        return self.call("POST", f"/v1/messages/{_segment(message_id)}/cancel", body=_given(reason=reason))

    def cancel_all(self, *, dry_run: bool = False, **filters: str) -> Json:
        """Cancel the messages that every filter fits and that were not given to the gateway; or only count them.

        Some thousands a call: go on until the answer's `isComplete` is true.
        """
        return self.call("POST", "/v1/messages/cancel", body={**filters, "dryRun": dry_run})

    def resolve(self, message_id: str, status: str, reason: str) -> Json:
        """Say what became of a message whose send was never answered; a receipt that comes later still wins."""
        body = {"status": status, "reason": reason}
        return self.call("POST", f"/v1/messages/{_segment(message_id)}/resolve", body=body)

    def sending(self) -> Json:
        """Whether messages go out, and what holds them."""
        return self.call("GET", "/v1/sending")

    def pause(self, reason: str) -> Json:
        """Give nothing to the gateway until `resume`."""
        return self.call("POST", "/v1/sending/pause", body={"reason": reason})

    def resume(self, reason: str | None = None) -> Json:
        """Let messages go out again."""
        return self.call("POST", "/v1/sending/resume", body=_given(reason=reason))

    def suppressions(self, **filters: str) -> Iterator[Json]:
        """Who may not be written to by whom, as far as every filter fits."""
        yield from self.listed("/v1/suppressions", filters)

    def suppress(self, recipient: str, originator: str | None = None, reason: str | None = None) -> Json:
        """Keep a sender (none: the account's own number) from writing to a person any more."""
        body = _given(recipient=recipient, originator=originator, reason=reason)
        return self.call("POST", "/v1/suppressions", body=body)

    def allow(self, recipient: str, originator: str | None = None, reason: str | None = None) -> Json:
        """Let a sender write to a person again. ApiError 404: nothing kept it from that."""
        parameters = _given(recipient=recipient, originator=originator, reason=reason)
        return self.call("DELETE", "/v1/suppressions", parameters)

    def receipts(self, **filters: str) -> Iterator[Json]:
        """The ledger's rows that every filter fits, the newest first."""
        yield from self.listed("/v1/receipts", filters)

    def receipt(self, receipt_id: str) -> Json:
        """One receipt as it came, with what it led to and what was done to it."""
        return self.call("GET", f"/v1/receipts/{_segment(receipt_id)}")

    def match(self, receipt_id: str, message_id: str, reason: str | None = None) -> Json:
        """Say which message a receipt is about."""
        body = _given(message=message_id, reason=reason)
        return self.call("POST", f"/v1/receipts/{_segment(receipt_id)}/match", body=body)

    def retry(self, receipt_id: str, reason: str | None = None) -> Json:
        """Have a receipt worked on again."""
        return self.call("POST", f"/v1/receipts/{_segment(receipt_id)}/retry", body=_given(reason=reason))

    def dismiss(self, receipt_id: str, reason: str) -> Json:
        """Give a receipt up; it is kept."""
        return self.call("POST", f"/v1/receipts/{_segment(receipt_id)}/dismiss", body={"reason": reason})

    def replay(self, **selection: object) -> Json:
        """Have many receipts worked on again: one call's bounded number of them, with `nextCursor` to go on."""
        return self.call("POST", "/v1/receipts/replay", body=selection)

    def transaction(self, transaction_id: str) -> Json:
        """The messages of a transactionID, with their transitions."""
        return self.call("GET", f"/v1/transactions/{_segment(transaction_id)}")

    def conversations(self, **filters: str) -> Iterator[Json]:
        """All conversations, the one that was active last first."""
        yield from self.listed("/v1/conversations", filters)

    def timeline(self, reference: str, **filters: str) -> Iterator[Json]:
        """What happened in a conversation, by its clientRef or `cnv_` id, the earliest first."""
        yield from self.listed("/v1/conversations", {"clientRef": reference, **filters}, name="timeline")

    def recipient(self, number: str, **filters: str) -> Iterator[Json]:
        """Every message to a person and every reply of theirs, the newest first. ApiError 404: there is none."""
        yield from self.listed(f"/v1/recipients/{_segment(number)}", filters)

    def replies(self, **filters: str) -> Iterator[Json]:
        """The replies that every filter fits, the newest first."""
        yield from self.listed("/v1/inbound", filters)

    def statistics(self, **filters: str) -> Json:
        """Messages by status, their delivery rate and times, and receipts, by hour or day."""
        return self.call("GET", "/v1/stats", filters)

    def overdue(self, older_than_seconds: int = 3600) -> Json:
        """Messages that should have had a final receipt by now."""
        return self.call("GET", "/v1/stats/overdue", {"olderThan": str(older_than_seconds)})

    def conversation(self, reference: str) -> Json:
        """A conversation by its clientRef or `cnv_` id, with the whole of its timeline."""
        # Not in the path: a clientRef such as ".." would be taken for a way to another address.
        pages = self.pages("/v1/conversations", {"clientRef": reference})
        conversation = next(pages)
        timeline = objects(conversation, "timeline")
        for page in pages:
            timeline += objects(page, "timeline")
        return {**conversation, "timeline": timeline, "nextCursor": None}

    def events(self, last_event_id: str | None = None, **filters: str) -> Iterator[Event]:
        """What happens from now on, or after an event that is known by its id; as far as every filter fits.

        It never ends: when the stream is cut, it comes again after what it gave last. Keep the id of an event when you
        are done with it. ApiError 410: not everything after this id is kept. Unreachable: at the first try only.
        """
        yield from self.follow("/v1/events", last_event_id, filters)

    def ledger(self) -> Json:
        """The counters of what was received and what became of it."""
        return self.call("GET", "/v1/ledger")


def _segment(text: str) -> str:
    return quote(text, safe="")


def _given(**members: str | None) -> Json:
    return {name: value for name, value in members.items() if value is not None}
