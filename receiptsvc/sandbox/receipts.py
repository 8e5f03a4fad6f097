"""A message's receipts as HTTP requests, in the order and with the gaps in which they will be made.

Making the requests is `callbacks`' work.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from urllib.parse import quote, urlencode

from receiptsvc.sandbox import behaviour, wire
from receiptsvc.sandbox.behaviour import Form
from receiptsvc.sandbox.callbacks import Step
from receiptsvc.sandbox.http_client import Request
from receiptsvc.sandbox.options import Options

_PERSISTENT_TRIES = 4
_LONG_TEXT_BYTES = 6_000  # percent-encoded; the whole request line stays below the usual 8 KiB
_BOUNDARY = "sandbox-boundary"
_GARBAGE = "%ZZ=%&&&==%00%FF%FE;datetime&statusid=%C3%28&%=%%%"


def _documented(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}"


def _words(at: datetime) -> str:
    return f"{at:%d %b %Y %H:%M:%S}"


DATETIME_STYLES: Mapping[str, Callable[[datetime], str]] = {
    "documented": _documented,  # the sample receiver's: yyyy-MM-ddTHH:mm:ss.SSS, no zone
    "words": _words,  # documented for replies
    "seconds": lambda at: f"{at:%Y-%m-%dT%H:%M:%S}",
    "zoned": lambda at: at.astimezone(timezone(timedelta(hours=2))).isoformat(timespec="milliseconds"),
    "slashes": lambda at: f"{at:%d/%m/%Y %H:%M:%S}",
    "broken": lambda _: "31/31/2016 25:61",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What receipts are about. `at`: when the gateway took it, aware."""

    message: wire.Message
    recipient: str
    transaction_id: int
    callback_url: str
    at: datetime


def planned(plan: behaviour.Plan, *, forward_sent: bool) -> tuple[str, ...]:
    """The statuses to come, keys of `behaviour.STATUSES`, in their order of arrival, each as often as it comes."""
    finals = plan.finals if plan.receipts else ()
    sent = ("sent",) if forward_sent and finals else ()
    order = (*finals, *sent) if plan.final_first else (*sent, *finals)
    return tuple(word for word in order for _ in range(plan.copies))


def steps(subject: Subject, plan: behaviour.Plan, options: Options, spread: float) -> list[Step]:
    """The requests for one recipient. `spread`: from 0 to 1, how much of the spread each gap has."""
    gap = options.delay_seconds + spread * options.spread_seconds
    tries = max(1 + options.retries, _PERSISTENT_TRIES if plan.persistent else 1)
    words = planned(plan, forward_sent=subject.message.forward_sent)
    # The times tell the true order, whatever the order of arrival; a millisecond apart, the wire's grain.
    history = dict.fromkeys(sorted(words, key=lambda word: word != "sent"))
    times = {
        word: subject.at + timedelta(seconds=max(gap, 0.001) * place) for place, word in enumerate(history, start=1)
    }
    made = []
    for place, word in enumerate(words):
        status_id, description = behaviour.STATUSES[word]
        wait = 0 if plan.early else gap
        if plan.late and place == 0:
            wait += options.late_seconds
        made.append(
            Step(
                request=_request(subject.callback_url, _fields(subject, plan, word, times[word]), plan),
                wait_seconds=wait,
                tries=tries,
                transaction_id=subject.transaction_id,
                status_id=status_id,
                description=description,
            )
        )
    return made


def reply(url: str, fields: Mapping[str, str]) -> Request:
    """A reply, or a callback made by hand: GET with these fields."""
    return Request(method="GET", url=_with_query(url, urlencode(fields, quote_via=quote)))


def _fields(subject: Subject, plan: behaviour.Plan, word: str, at: datetime) -> dict[str, str]:
    status_id, description = behaviour.STATUSES[word]
    fields = {
        "datetime": DATETIME_STYLES[plan.datetime_style](at),
        "recipient": subject.recipient,
        "statusid": str(status_id),
        "statusdescription": description,
        "clientref": subject.message.client_ref or "",
        "transactionid": str(subject.transaction_id),
    }
    if plan.long_text:
        once = quote(subject.message.text + " ")
        fields["messagetext"] = (subject.message.text + " ") * max(1, _LONG_TEXT_BYTES // len(once))
    elif subject.message.include_text:
        fields["messagetext"] = subject.message.text
    if plan.extra:
        fields |= {"network": "23430", "parts": "1", "price": "0.032"}
    return {
        name.upper() if plan.upper_case else name: value
        for name, value in fields.items()
        if name not in plan.omitted and (name != "clientref" or subject.message.client_ref is not None)
    }


def _request(url: str, fields: Mapping[str, str], plan: behaviour.Plan) -> Request:
    form = urlencode(fields, quote_via=quote)
    whole = {name: int(value) if name in {"statusid", "transactionid"} else value for name, value in fields.items()}
    match plan.form:
        case Form.GET | Form.HEAD:
            return Request(method=plan.form.upper(), url=_with_query(url, form))
        case Form.GARBAGE:
            return Request(method="GET", url=_with_query(url, _GARBAGE))
        case Form.POST_FORM:
            return Request(method="POST", url=url, content_type="application/x-www-form-urlencoded", body=form.encode())
        case Form.POST_JSON:
            return Request(method="POST", url=url, content_type="application/json", body=json.dumps(whole).encode())
        case Form.BROKEN_JSON:
            body = json.dumps(whole).encode()
            return Request(method="POST", url=url, content_type="application/json", body=body[: len(body) // 2])
        case Form.POST_MULTIPART:
            return Request(
                method="POST",
                url=url,
                content_type=f"multipart/form-data; boundary={_BOUNDARY}",
                body=_multipart(fields),
            )


def _multipart(fields: Mapping[str, str]) -> bytes:
    parts = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    return ("".join(parts) + f"--{_BOUNDARY}--\r\n").encode()


def _with_query(url: str, query: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{query}"
