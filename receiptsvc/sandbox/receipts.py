"""Builds a message's receipts as HTTP requests, in their order and with the gaps between them.

The requests are made in `callbacks`.
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


DATETIME_STYLES: Mapping[str, Callable[[datetime], str]] = {
    # The sample receiver's: yyyy-MM-ddTHH:mm:ss.SSS, no zone.
    "documented": lambda at: f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}",
    "words": lambda at: f"{at:%d %b %Y %H:%M:%S}",  # documented for replies
    "seconds": lambda at: f"{at:%Y-%m-%dT%H:%M:%S}",
    "zoned": lambda at: at.astimezone(timezone(timedelta(hours=2))).isoformat(timespec="milliseconds"),
    "slashes": lambda at: f"{at:%d/%m/%Y %H:%M:%S}",
    "broken": lambda _: "31/31/2016 25:61",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """The message that receipts are for. `at`: when the gateway took it, aware."""

    message: wire.Message
    recipient: str
    transaction_id: int
    callback_url: str
    at: datetime


def planned(plan: behaviour.Plan, *, forward_sent: bool) -> tuple[str, ...]:
    """The statuses of the receipts, keys of `behaviour.STATUSES`, in their order of arrival, copies included."""
    finals = plan.finals if plan.receipts else ()
    sent = ("sent",) if forward_sent and finals else ()
    order = (*finals, *sent) if plan.final_first else (*sent, *finals)
    return tuple(status for status in order for _ in range(plan.copies))


def steps(subject: Subject, plan: behaviour.Plan, options: Options, spread: float) -> list[Step]:
    """The requests for one recipient. `spread`: from 0 to 1, the share of `spread_seconds` that each gap gets."""
    gap = options.delay_seconds + spread * options.spread_seconds
    tries = max(1 + options.retries, _PERSISTENT_TRIES if plan.persistent else 1)
    statuses = planned(plan, forward_sent=subject.message.forward_sent)
    # The receipts' times show the true order, whatever the order of arrival; at least a millisecond apart, because the
    # wire has no smaller unit.
    true_order = dict.fromkeys(sorted(statuses, key=lambda status: status != "sent"))
    times = {
        status: subject.at + timedelta(seconds=max(gap, 0.001) * number)
        for number, status in enumerate(true_order, start=1)
    }
    requests = []
    for index, status in enumerate(statuses):
        status_id, description = behaviour.STATUSES[status]
        wait = 0 if plan.early else gap
        if plan.late and index == 0:
            wait += options.late_seconds
        requests.append(
            Step(
                request=_request(subject.callback_url, _fields(subject, plan, status, times[status]), plan),
                wait_seconds=wait,
                tries=tries,
                transaction_id=subject.transaction_id,
                status_id=status_id,
                description=description,
            )
        )
    return requests


def reply(url: str, fields: Mapping[str, str]) -> Request:
    """A reply, or a callback by hand: a GET with these fields."""
    return Request(method="GET", url=_with_query(url, urlencode(fields, quote_via=quote)))


def _fields(subject: Subject, plan: behaviour.Plan, status: str, at: datetime) -> dict[str, str]:
    status_id, description = behaviour.STATUSES[status]
    fields = {
        "datetime": DATETIME_STYLES[plan.datetime_style](at),
        "recipient": subject.recipient,
        "statusid": str(status_id),
        "statusdescription": description,
        "clientref": subject.message.client_ref or "",
        "transactionid": str(subject.transaction_id),
    }
    if plan.long_text:
        text = subject.message.text + " "
        fields["messagetext"] = text * max(1, _LONG_TEXT_BYTES // len(quote(text)))
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
    members = {name: int(value) if name in {"statusid", "transactionid"} else value for name, value in fields.items()}
    match plan.form:
        case Form.GET | Form.HEAD:
            return Request(method=plan.form.upper(), url=_with_query(url, form))
        case Form.GARBAGE:
            return Request(method="GET", url=_with_query(url, _GARBAGE))
        case Form.POST_FORM:
            return Request(method="POST", url=url, content_type="application/x-www-form-urlencoded", body=form.encode())
        case Form.POST_JSON:
            return Request(method="POST", url=url, content_type="application/json", body=json.dumps(members).encode())
        case Form.BROKEN_JSON:
            body = json.dumps(members).encode()
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
