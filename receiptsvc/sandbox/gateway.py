"""The gateway's mind: what it remembers from one call to the next, what it takes, and what becomes of it.

No HTTP here: `server` hands calls in and acts out how they end, `callbacks` makes the receipts.
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
from receiptsvc.sandbox import options as settings
from receiptsvc.sandbox.accepted import Accepted
from receiptsvc.sandbox.behaviour import CallEnd, Ending, Item, Plan
from receiptsvc.sandbox.callbacks import Chain, Scheduler
from receiptsvc.sandbox.http_client import Answer, Request
from receiptsvc.sandbox.options import Options

_WORKING = CallEnd(once=False)


class LogonRefused(Exception):
    """Wrong credentials, to be answered with a bare 401."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a call comes to. The answer goes out once each of `early` is done. `quoted`: the text that broke it."""

    end: CallEnd
    results: tuple[wire.Result, ...]
    quoted: str = ""
    early: tuple[threading.Event, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Intent:
    """A message of a call, and what is planned for it before anything is taken."""

    message: wire.Message
    key: Hashable  # the messageGuid; by REST, which has none, what makes a second SMS look like the first
    guid: str | None
    refusal: wire.Refusal | None
    names: Mapping[str, tuple[str, ...]]  # by recipient
    plan: Plan  # for the message as a whole: all its recipients' together


@dataclass(frozen=True, kw_only=True, slots=True)
class _Remembered:
    at: float
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
        self._looks: set[tuple[object, ...]] = set()
        self._happened: set[tuple[Hashable, object]] = set()  # (a message's key, what happens only once)
        self._client_refs: dict[str, str | None] = {}
        self._taken: deque[Accepted] = deque(maxlen=options.keep_messages)

    @property
    def options(self) -> Options:
        """The options in force."""
        return self._options

    def change(self, changes: Mapping[str, object]) -> Options:
        """Change options while it runs. Raises ValueError that names each fault; then nothing has changed."""
        with self._lock:
            self._options = settings.changed(self._options, changes)
            self._scheduler.limit_seconds = self._options.callback_limit_seconds
            self._scheduler.retry_gap_seconds = self._options.retry_gap_seconds
            return self._options

    def submit(self, call: wire.Call) -> Verdict:
        """Take a call's messages as far as they can be taken.

        Raises wire.Fault or LogonRefused where wrong credentials are answered so.
        """
        with self._lock:
            self._counts["calls"] += 1
            self._counts["submissions"] += len(call.messages)
            if not self._may_log_on(call):
                return self._refuse_logon(call)
            too_many = sum(len(message.recipients) for message in call.messages) > wire.MAX_RECIPIENTS
            intents = [self._intend(message, too_many=too_many) for message in call.messages]
            end = self._call_end(intents)
            if end is not _WORKING:
                self._counts["spoiledAnswers"] += 1
            if not end.accepts:
                quoted = next((one.message.text for one in intents if one.plan.call_end == end), "")
                return Verdict(end=end, results=(), quoted=quoted)
            results: list[wire.Result] = []
            chains: list[Chain] = []
            for intent in intents:
                results += self._take(intent, chains, silent=end.silent)
            # Under the lock, so that nobody sees a message taken and nothing pending for it.
            for chain in chains:
                self._scheduler.schedule(chain)
        if any(intent.plan.reversed_answer for intent in intents):
            results.reverse()
        early = tuple(chain.done for chain in chains if chain.done is not None)
        return Verdict(end=end, results=tuple(results), early=early)

    def report(self) -> dict[str, object]:
        """What was counted so far.

        `doubles`: taken twice for one guid; by REST, which ignores no duplicate, for one to, clientRef and body.
        `messageGuids`, `restMessages`: how many different ones were taken. `lookalikes`: taken though recipient, text,
        clientRef and callback URL were all taken before. `spoiledAnswers`: calls that ended otherwise than with a plain
        answer.
        """
        with self._lock:
            counted = (
                *("calls", "submissions", "duplicates", "refused", "doubles", "lookalikes", "spoiledAnswers"),
                *("messageGuids", "restMessages", "withoutCallbackUrl"),
            )
            report: dict[str, object] = {name: self._counts[name] for name in counted}
        return {**report, "pending": self._scheduler.pending, "callbacks": self._scheduler.report()}

    def messages(self) -> list[dict[str, object]]:
        """Each message that was taken, one entry a recipient, oldest first."""
        with self._lock:
            taken = list(self._taken)
        return [one.described() for one in taken]

    def reply(self, given: Mapping[str, str | None]) -> tuple[str, Answer]:
        """Forward a person's reply to the configured URL: its msgid, and how the callback ended.

        `given`: sender, recipient, content; perhaps clientRef (absent: that of the last message sent to this person,
        as the gateway documents; None: none), msgid, datetime. Raises ValueError without a URL.
        """
        url = self._options.reply_url
        if url is None:
            raise ValueError("reply_url: must be set first")
        sender = given["sender"] or ""
        with self._lock:
            msgid = given.get("msgid") or str(next(self._msgids))
            client_ref = given["clientRef"] if "clientRef" in given else self._client_refs.get(sender)
        fields = {
            "msgid": msgid,
            "datetime": given.get("datetime") or receipts.DATETIME_STYLES["words"](datetime.now(UTC)),
            "sender": sender,
            "recipient": given["recipient"] or "",
            "content": given["content"] or "",
        }
        if client_ref is not None:
            fields["clientref"] = client_ref
        return msgid, self._scheduler.call_now(receipts.reply(url, fields))

    def call_back(self, request: Request) -> Answer:
        """Make one callback by hand."""
        return self._scheduler.call_now(request)

    def _may_log_on(self, call: wire.Call) -> bool:
        wanted = self._options
        return wanted.username in {None, call.name} and wanted.password in {None, call.password}

    def _refuse_logon(self, call: wire.Call) -> Verdict:
        self._counts["refused"] += len(call.messages)
        if self._options.logon_style == "fault" and call.envelope is not None:
            raise wire.Fault("Server", wire.LOGON_REFUSED)
        if self._options.logon_style == "forbidden":
            return Verdict(end=CallEnd(ending=Ending.FORBIDDEN, once=False), results=())
        if self._options.logon_style == "http":
            raise LogonRefused
        why = wire.Refusal(code=101, detail="name and password do not belong together")
        return Verdict(end=_WORKING, results=tuple(wire.refused(message, why) for message in call.messages))

    def _intend(self, message: wire.Message, *, too_many: bool) -> _Intent:
        is_rest = message.transport == rest.TRANSPORT
        refusal = rest.refusal(message) if is_rest else wire.refusal(message)
        if refusal is None and too_many:
            refusal = wire.Refusal(code=206, detail=f"at most {wire.MAX_RECIPIENTS} in all")
        names = {recipient: self._behaviours(message, recipient) for recipient in message.recipients}
        guid = None if is_rest else message.message_guid or str(uuid.uuid4())
        return _Intent(
            message=message,
            key=guid or (message.recipients, message.client_ref, message.text),
            guid=guid,
            refusal=refusal,
            names=names,
            plan=behaviour.plan(tuple(itertools.chain.from_iterable(names.values()))),
        )

    def _behaviours(self, message: wire.Message, recipient: str) -> tuple[str, ...]:
        """What befalls a message to this number: defaults, then chance, then what account, text and number ask for."""
        options = self._options
        drawn = [name for name in options.chances if not behaviour.ends_call(name) and self._draw(name)]
        asked = options.numbers.get(recipient, ())
        by_tail = behaviour.by_number(recipient) if options.by_number and not asked else None
        others = (
            *options.accounts.get(message.fields.get("impersonateUserName", ""), ()),
            *options.texts.get(message.text, ()),
        )
        return (*options.default, *drawn, *others, *asked, *([by_tail] if by_tail else []))

    def _draw(self, name: str) -> bool:
        self._counts[f"draws:{name}"] += 1
        return behaviour.draw(self._options.seed, name, self._counts[f"draws:{name}"]) < self._options.chances[name]

    def _call_end(self, intents: Sequence[_Intent]) -> CallEnd:
        """How this call ends: by chance, or by the first message that asks for it and has not had it yet."""
        for name in filter(behaviour.ends_call, self._options.chances):
            drawn = behaviour.plan((name,)).call_end
            if self._draw(name) and drawn is not None:
                return drawn
        for intent in intents:
            end = intent.plan.call_end
            if end is None or (end.once and (intent.key, end) in self._happened):
                continue
            self._happened.update((other.key, end) for other in intents if other.plan.call_end == end)
            return end
        return _WORKING

    def _take(self, intent: _Intent, chains: list[Chain], *, silent: bool) -> list[wire.Result]:
        remembered = self._guids.get(intent.guid) if intent.guid else None
        memory = self._options.guid_memory_seconds
        if remembered is not None and (memory is None or time.monotonic() - remembered.at < memory):
            self._counts["duplicates"] += 1
            return self._duplicate_answer(intent, remembered)
        refusal = intent.refusal or self._whim(intent)
        if refusal is not None:
            self._counts["refused"] += 1
            return [wire.refused(intent.message, refusal)]
        groups = [intent.message.recipients]
        if self._options.transaction_per_recipient:
            groups = [(recipient,) for recipient in intent.message.recipients]
        results = [wire.Result(transaction_id=next(self._transactions), recipients=group) for group in groups]
        if intent.guid:
            self._guids[intent.guid] = _Remembered(at=time.monotonic(), results=tuple(results))
        is_double = intent.key in self._ever_taken
        self._counts["doubles"] += is_double
        self._counts["messageGuids" if intent.guid else "restMessages"] += not is_double
        self._ever_taken.add(intent.key)
        for result in results:
            chains += self._keep(intent, result, silent=silent)
        return [answered for result in results for answered in _spoiled(result, intent.plan.item)]

    def _whim(self, intent: _Intent) -> wire.Refusal | None:
        """A refusal that was asked for."""
        if intent.plan.refusal is behaviour.Refusal.NEVER:
            return None
        if intent.plan.refusal is behaviour.Refusal.ONCE:
            if (intent.key, "refusal") in self._happened:
                return None
            self._happened.add((intent.key, "refusal"))
        return wire.Refusal(code=intent.plan.refusal_code, detail="asked for by the sandbox's behaviour")

    def _duplicate_answer(self, intent: _Intent, remembered: _Remembered) -> list[wire.Result]:
        """How a repeat is answered is documented nowhere, hence the option."""
        match self._options.duplicate_answer:
            case "first":
                return list(remembered.results)
            case "new":
                new = next(self._transactions)
                return [wire.Result(transaction_id=new, recipients=intent.message.recipients)]
            case "none":
                return [wire.Result(transaction_id=None, recipients=intent.message.recipients)]
            case _:
                return [wire.refused(intent.message, wire.Refusal(code=301, detail="submitted before"))]

    def _keep(self, intent: _Intent, result: wire.Result, *, silent: bool) -> list[Chain]:
        """Keep what was taken under one transaction, and plan its receipts."""
        message, url, at = intent.message, self._callback_url(intent.message), datetime.now(UTC)
        chains = []
        for recipient in result.recipients or ():
            self._counts["taken"] += 1
            self._counts["withoutCallbackUrl"] += url is None
            self._client_refs[recipient] = message.client_ref
            look = (recipient, message.text, message.client_ref, url)
            self._counts["lookalikes"] += look in self._looks
            self._looks.add(look)
            plan = behaviour.plan(intent.names[recipient])
            planned = () if silent or url is None else receipts.planned(plan, forward_sent=message.forward_sent)
            taken = Accepted(
                message=message,
                recipient=recipient,
                transaction_id=result.transaction_id or 0,
                guid=intent.guid,
                callback_url=url,
                at=at,
                behaviours=intent.names[recipient],
                planned=planned,
            )
            self._taken.append(taken)
            if url is not None and planned:
                chains.append(self._chain(taken, plan, url))
        return chains

    def _chain(self, taken: Accepted, plan: Plan, url: str) -> Chain:
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

    def _callback_url(self, message: wire.Message) -> str | None:
        understood = "any" if message.transport == rest.TRANSPORT else self._options.callback_element
        spellings = wire.CALLBACK_ELEMENTS if understood == "any" else (understood,)
        return next((message.callback_urls[name] for name in spellings if name in message.callback_urls), None)


def _spoiled(result: wire.Result, item: Item) -> list[wire.Result]:
    """A taken message's part of the answer, as its behaviour wants it."""
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
