"""The mock gateway's state and decisions: which messages it takes, how a call ends, which receipts follow.

No HTTP here: `server` hands calls in and ends them as decided, `callbacks` sends the receipts.
"""

import itertools
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from receiptsvc.sandbox import behaviour, receipts, rest, wire
from receiptsvc.sandbox.accepted import Accepted
from receiptsvc.sandbox.behaviour import CallEnd, Ending, Item, Plan
from receiptsvc.sandbox.callbacks import Chain, Scheduler
from receiptsvc.sandbox.http_client import Answer, Request
from receiptsvc.sandbox.options import Options, apply_changes

_NORMAL_END = CallEnd(once=False)


class LogonRefused(Exception):
    """Wrong credentials, to be answered with a plain 401."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What the gateway decided about a call."""

    end: CallEnd
    results: tuple[wire.Result, ...]
    quoted_text: str = ""  # the text of the message that made the call end, for an error that quotes it
    early_receipts: tuple[threading.Event, ...] = ()  # the answer waits until each of them is set


@dataclass(frozen=True, kw_only=True, slots=True)
class _Intent:
    """A message of a call with its plan, before anything is taken."""

    message: wire.Message
    key: Hashable  # the messageGuid; by REST, which has none, the fields in which a repeated message is equal
    guid: str | None
    refusal: wire.Refusal | None
    behaviours: Mapping[str, tuple[str, ...]]  # recipient → behaviours
    plan: Plan  # of the whole message: the behaviours of all its recipients combined


@dataclass(frozen=True, kw_only=True, slots=True)
class _Remembered:
    taken_at: float  # time.monotonic()
    results: tuple[wire.Result, ...]


class Gateway:
    """Takes calls from any thread."""

    def __init__(self, options: Options, scheduler: Scheduler) -> None:
        self._options = options
        self._scheduler = scheduler
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._transactions = itertools.count(options.transaction_start)
        self._msgids = itertools.count(options.msgid_start)
        self._guids: dict[str, _Remembered] = {}
        self._ever_taken: set[Hashable] = set()
        self._lookalike_keys: set[tuple[object, ...]] = set()
        # (a message's key, something that happens to it only once)
        self._happened_once: set[tuple[Hashable, object]] = set()
        self._client_refs: dict[str, str | None] = {}
        self._taken: deque[Accepted] = deque(maxlen=options.keep_messages)

    @property
    def options(self) -> Options:
        """The options in force."""
        return self._options

    def change(self, changes: Mapping[str, object]) -> Options:
        """Change options while it runs. Raises ValueError that names each fault and changes nothing."""
        with self._lock:
            self._options = apply_changes(self._options, changes)
            self._scheduler.limit_seconds = self._options.callback_limit_seconds
            self._scheduler.retry_gap_seconds = self._options.retry_gap_seconds
            return self._options

    def submit(self, call: wire.Call) -> Outcome:
        """Take the messages of a call that can be taken, and schedule their receipts.

        Raises wire.Fault or LogonRefused for wrong credentials, by `logon_style`.
        """
        with self._lock:
            self._counts["calls"] += 1
            self._counts["submissions"] += len(call.messages)
            if not self._is_logon_valid(call):
                return self._refuse_logon(call)
            is_too_large = sum(len(message.recipients) for message in call.messages) > wire.MAX_RECIPIENTS
            intents = [self._make_intent(message, is_too_large=is_too_large) for message in call.messages]
            end = self._choose_end(intents)
            if end is not _NORMAL_END:
                self._counts["spoiledAnswers"] += 1
            if not end.accepts:
                quoted_text = next((intent.message.text for intent in intents if intent.plan.call_end == end), "")
                return Outcome(end=end, results=(), quoted_text=quoted_text)
            results: list[wire.Result] = []
            chains: list[Chain] = []
            for intent in intents:
                results += self._take(intent, chains, silent=end.silent)
            # Under the lock, so that a report never shows a message as taken with nothing pending for it.
            for chain in chains:
                self._scheduler.schedule(chain)
        if any(intent.plan.reversed_answer for intent in intents):
            results.reverse()
        early_receipts = tuple(chain.done for chain in chains if chain.done is not None)
        return Outcome(end=end, results=tuple(results), early_receipts=early_receipts)

    def report(self) -> dict[str, object]:
        """The counts so far.

        `doubles`: taken again with the same guid; by REST, which ignores no duplicate, with the same to, clientRef and
        body. `messageGuids`, `restMessages`: how many distinct ones were taken. `lookalikes`: taken although the same
        recipient, text, clientRef and callback URL had been taken before. `spoiledAnswers`: calls that did not end with
        a normal answer.
        """
        with self._lock:
            names = (
                *("calls", "submissions", "duplicates", "refused", "doubles", "lookalikes", "spoiledAnswers"),
                *("messageGuids", "restMessages", "withoutCallbackUrl"),
            )
            report: dict[str, object] = {name: self._counts[name] for name in names}
        return {**report, "pending": self._scheduler.pending, "callbacks": self._scheduler.report()}

    def messages(self) -> list[dict[str, object]]:
        """Each message that was taken, one entry per recipient, oldest first."""
        with self._lock:
            taken = list(self._taken)
        return [message.described() for message in taken]

    def reply(self, payload: Mapping[str, str | None]) -> tuple[str, Answer]:
        """Forward a reply to `reply_url`. Returns its msgid and the service's answer.

        `payload`: sender, recipient, content; optionally msgid, datetime and clientRef (absent: that of the last
        message to this sender, as the gateway documents; None: no clientRef). Raises ValueError without `reply_url`.
        """
        url = self._options.reply_url
        if url is None:
            raise ValueError("reply_url: must be set first")
        sender = payload["sender"] or ""
        with self._lock:
            msgid = payload.get("msgid") or str(next(self._msgids))
            client_ref = payload["clientRef"] if "clientRef" in payload else self._client_refs.get(sender)
        fields = {
            "msgid": msgid,
            "datetime": payload.get("datetime") or receipts.DATETIME_STYLES["words"](datetime.now(UTC)),
            "sender": sender,
            "recipient": payload["recipient"] or "",
            "content": payload["content"] or "",
        }
        if client_ref is not None:
            fields["clientref"] = client_ref
        return msgid, self._scheduler.call_now(receipts.reply(url, fields))

    def call_back(self, request: Request) -> Answer:
        """Send one callback that a test made itself."""
        return self._scheduler.call_now(request)

    def _is_logon_valid(self, call: wire.Call) -> bool:
        options = self._options
        return options.username in {None, call.name} and options.password in {None, call.password}

    def _refuse_logon(self, call: wire.Call) -> Outcome:
        self._counts["refused"] += len(call.messages)
        if self._options.logon_style == "fault" and call.envelope is not None:
            raise wire.Fault("Server", wire.LOGON_REFUSED)
        if self._options.logon_style == "forbidden":
            return Outcome(end=CallEnd(ending=Ending.FORBIDDEN, once=False), results=())
        if self._options.logon_style == "http":
            raise LogonRefused
        refusal = wire.Refusal(code=101, detail="name and password do not belong together")
        return Outcome(end=_NORMAL_END, results=tuple(wire.refused(message, refusal) for message in call.messages))

    def _make_intent(self, message: wire.Message, *, is_too_large: bool) -> _Intent:
        is_rest = message.transport == rest.TRANSPORT
        refusal = rest.refusal(message) if is_rest else wire.refusal(message)
        if refusal is None and is_too_large:
            refusal = wire.Refusal(code=206, detail=f"at most {wire.MAX_RECIPIENTS} in all")
        behaviours = {recipient: self._choose_behaviours(message, recipient) for recipient in message.recipients}
        guid = None if is_rest else message.message_guid or str(uuid.uuid4())
        return _Intent(
            message=message,
            key=(guid and guid.lower()) or (message.recipients, message.client_ref, message.text),
            guid=guid,
            refusal=refusal,
            behaviours=behaviours,
            plan=behaviour.plan(tuple(itertools.chain.from_iterable(behaviours.values()))),
        )

    def _choose_behaviours(self, message: wire.Message, recipient: str) -> tuple[str, ...]:
        """A message's behaviours: default, drawn, then by account, text and number. A later one wins."""
        options = self._options
        drawn = [name for name in options.chances if not behaviour.ends_call(name) and self._draw(name)]
        by_number = options.numbers.get(recipient, ())
        by_tail = behaviour.find_by_number(recipient) if options.by_number and not by_number else None
        by_content = (
            *options.accounts.get(message.fields.get("impersonateUserName", ""), ()),
            *options.texts.get(message.text, ()),
        )
        return (*options.default, *drawn, *by_content, *by_number, *([by_tail] if by_tail else []))

    def _draw(self, name: str) -> bool:
        self._counts[f"draws:{name}"] += 1
        return behaviour.draw(self._options.seed, name, self._counts[f"draws:{name}"]) < self._options.chances[name]

    def _choose_end(self, intents: Sequence[_Intent]) -> CallEnd:
        """How this call ends: by chance, or by the first message whose plan ends a call and has not done so yet."""
        for name in filter(behaviour.ends_call, self._options.chances):
            end = behaviour.plan((name,)).call_end
            if self._draw(name) and end is not None:
                return end
        for intent in intents:
            end = intent.plan.call_end
            if end is None or (end.once and (intent.key, end) in self._happened_once):
                continue
            self._happened_once.update((other.key, end) for other in intents if other.plan.call_end == end)
            return end
        return _NORMAL_END

    def _take(self, intent: _Intent, chains: list[Chain], *, silent: bool) -> list[wire.Result]:
        remembered = self._guids.get(intent.guid.lower()) if intent.guid else None
        memory = self._options.guid_memory_seconds
        if remembered is not None and (memory is None or time.monotonic() - remembered.taken_at < memory):
            self._counts["duplicates"] += 1
            return self._answer_duplicate(intent, remembered)
        refusal = intent.refusal or self._find_planned_refusal(intent)
        if refusal is not None:
            self._counts["refused"] += 1
            return [wire.refused(intent.message, refusal)]
        groups = [intent.message.recipients]
        if self._options.transaction_per_recipient:
            groups = [(recipient,) for recipient in intent.message.recipients]
        results = [wire.Result(transaction_id=next(self._transactions), recipients=group) for group in groups]
        if intent.guid:
            self._guids[intent.guid.lower()] = _Remembered(taken_at=time.monotonic(), results=tuple(results))
        is_double = intent.key in self._ever_taken
        self._counts["doubles"] += is_double
        self._counts["messageGuids" if intent.guid else "restMessages"] += not is_double
        self._ever_taken.add(intent.key)
        for result in results:
            chains += self._record(intent, result, silent=silent)
        return [item for result in results for item in _spoil(result, intent.plan.item)]

    def _find_planned_refusal(self, intent: _Intent) -> wire.Refusal | None:
        """The refusal that the plan of a valid message asks for, if it is due."""
        if intent.plan.refusal is behaviour.RefusalMode.NEVER:
            return None
        if intent.plan.refusal is behaviour.RefusalMode.ONCE:
            if (intent.key, "refusal") in self._happened_once:
                return None
            self._happened_once.add((intent.key, "refusal"))
        return wire.Refusal(code=intent.plan.refusal_code, detail="asked for by the sandbox's behaviour")

    def _answer_duplicate(self, intent: _Intent, remembered: _Remembered) -> list[wire.Result]:
        """The answer to a repeated messageGuid. No document says what it is, hence the option."""
        match self._options.duplicate_answer:
            case "first":
                return list(remembered.results)
            case "new":
                transaction_id = next(self._transactions)
                return [wire.Result(transaction_id=transaction_id, recipients=intent.message.recipients)]
            case "none":
                return [wire.Result(transaction_id=None, recipients=intent.message.recipients)]
            case _:
                return [wire.refused(intent.message, wire.Refusal(code=301, detail="submitted before"))]

    def _record(self, intent: _Intent, result: wire.Result, *, silent: bool) -> list[Chain]:
        """Record what was taken under one transaction. Returns the receipts to schedule."""
        message, url, taken_at = intent.message, self._find_callback_url(intent.message), datetime.now(UTC)
        chains = []
        for recipient in result.recipients or ():
            self._counts["taken"] += 1
            self._counts["withoutCallbackUrl"] += url is None
            self._client_refs[recipient] = message.client_ref
            lookalike_key = (recipient, message.text, message.client_ref, url)
            self._counts["lookalikes"] += lookalike_key in self._lookalike_keys
            self._lookalike_keys.add(lookalike_key)
            plan = behaviour.plan(intent.behaviours[recipient])
            planned = () if silent or url is None else receipts.planned(plan, forward_sent=message.forward_sent)
            taken = Accepted(
                message=message,
                recipient=recipient,
                transaction_id=result.transaction_id or 0,
                guid=intent.guid,
                callback_url=url,
                at=taken_at,
                behaviours=intent.behaviours[recipient],
                planned=planned,
            )
            self._taken.append(taken)
            if url is not None and planned:
                chains.append(self._make_chain(taken, plan, url))
        return chains

    def _make_chain(self, taken: Accepted, plan: Plan, url: str) -> Chain:
        subject = receipts.Subject(
            message=taken.message,
            recipient=taken.recipient,
            transaction_id=taken.transaction_id,
            callback_url=url,
            at=taken.at,
        )
        spread = behaviour.draw(self._options.seed, "spread", self._counts["taken"])
        steps = receipts.steps(subject, plan, self._options, spread)
        return Chain(steps=deque(steps), calls=taken.calls, done=threading.Event() if plan.early else None)

    def _find_callback_url(self, message: wire.Message) -> str | None:
        element = "any" if message.transport == rest.TRANSPORT else self._options.callback_element
        spellings = wire.CALLBACK_ELEMENTS if element == "any" else (element,)
        return next((message.callback_urls[name] for name in spellings if name in message.callback_urls), None)


def _spoil(result: wire.Result, item: Item) -> list[wire.Result]:
    """The items of the answer for a taken message, as its plan wants them."""
    match item:
        case Item.MISSING:
            return []
        case Item.WITHOUT_ID:
            return [wire.Result(transaction_id=None, recipients=result.recipients)]
        case Item.WITHOUT_RECIPIENTS:
            return [wire.Result(transaction_id=result.transaction_id, recipients=None)]
        case Item.CODE_ZERO:
            return [wire.Result(transaction_id=result.transaction_id, recipients=result.recipients, code="0")]
        case Item.CODE_EMPTY:
            return [wire.Result(transaction_id=result.transaction_id, recipients=result.recipients, code="")]
        case Item.PLAIN:
            return [result]
