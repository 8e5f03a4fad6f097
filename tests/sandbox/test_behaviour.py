"""Each misbehaviour does what its name says: what arrives at a receiver, and what the caller is answered."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable

import pytest
import requests

from receiptsvc.sandbox import Box, behaviour
from tests.sandbox.receiver import Arrival, Receiver, envelope, message, post, results, send

SENT, DELIVERED, UNDELIVERED, EXPIRED, REJECTED = "Message sent", "Delivered", "Undelivered", "Expired", "Rejected"

# What arrives, in order, when "sent" is asked for too.
WORDS = {
    "delivered": [SENT, DELIVERED],
    "undelivered": [SENT, UNDELIVERED],
    "expired": [SENT, EXPIRED],
    "rejected": [SENT, REJECTED],
    "unknown-status": [SENT, "Pending carrier review"],
    "conflicting": [SENT, DELIVERED, UNDELIVERED],
    "no-receipts": [],
    "duplicate": [SENT, SENT, DELIVERED, DELIVERED],
    "reorder": [DELIVERED, SENT],
    "delay": [SENT, DELIVERED],
    "early": [SENT, DELIVERED],
    "retry": [SENT, DELIVERED],
}

ALL = {"datetime", "recipient", "statusid", "statusdescription", "clientref", "transactionid"}
# How a single receipt travels: method, content type, and the names of its fields.
SHAPES: dict[str, tuple[str, str | None, set[str]]] = {
    "post-form": ("POST", "application/x-www-form-urlencoded", ALL),
    "post-json": ("POST", "application/json", ALL),
    "post-multipart": ("POST", "multipart/form-data; boundary=sandbox-boundary", ALL),
    "head": ("HEAD", None, ALL),
    "upper-case": ("GET", None, {name.upper() for name in ALL}),
    "no-transactionid": ("GET", None, ALL - {"transactionid"}),
    "no-clientref": ("GET", None, ALL - {"clientref"}),
    "no-reference": ("GET", None, ALL - {"transactionid", "clientref"}),
    "no-description": ("GET", None, ALL - {"statusdescription"}),
    "no-statusid": ("GET", None, ALL - {"statusid"}),
    "no-datetime": ("GET", None, ALL - {"datetime"}),
    "extra-fields": ("GET", None, ALL | {"network", "parts", "price"}),
    "long-text": ("GET", None, ALL | {"messagetext"}),
}

DATETIMES = {
    "datetime-words": r"\d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d",
    "datetime-seconds": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d",
    "datetime-zoned": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+02:00",
    "datetime-slashes": r"\d\d/\d\d/\d{4} \d\d:\d\d:\d\d",
    "datetime-broken": r"31/31/2016 25:61",
}

UNREADABLE = {"garbage", "broken-json"}

# How a call ends the first time, whether its message is taken then, and how the same call ends the second time.
CALLS = {
    "lost-answer": ("cut", True, "answered"),
    "lost-answer-silent": ("cut", True, "answered"),
    "lost-request": ("cut", False, "answered"),
    "cut-answer": ("cut", True, "answered"),
    "drip-answer": ("dripped", True, "answered"),
    "slow-answer": ("late", True, "answered"),
    "huge-answer": ("200 blank", True, "answered"),
    "doctype-answer": ("200 doctype", True, "answered"),
    "not-xml-answer": ("200 words", True, "answered"),
    "empty-answer": ("200 empty", True, "answered"),
    "fault": ("500 fault", False, "500 fault"),
    "fault-once": ("500 fault", False, "answered"),
    "fault-taken": ("500 fault", True, "answered"),
    "fault-quoting": ("500 fault", False, "500 fault"),
    "fault-logon": ("500 fault", False, "500 fault"),
    "forbidden": ("403 html", False, "403 html"),
    "forbidden-taken": ("403 html", True, "answered"),
    "html-error": ("500 html", False, "answered"),
    "html-error-taken": ("500 html", True, "answered"),
}

# A taken (or refused) message's own part of the answer.
ITEMS: dict[str, Callable[[list[dict[str, str]]], bool]] = {
    "refuse": lambda items: items[0]["returnCode"] == "210",
    "refuse-once": lambda items: items[0]["returnCode"] == "210",
    "refuse-logon": lambda items: (
        (items[0]["returnCode"], "password" in items[0]["returnDescription"]) == ("211", True)
    ),
    "refuse-logon-once": lambda items: items[0]["returnCode"] == "211",
    "answer-out-of-order": lambda items: items[0]["recipients"] == "447700900000",
    "answer-missing-item": lambda items: [item["recipients"] for item in items] == ["447700900000"],
    "answer-without-id": lambda items: "transactionID" not in items[0] and "transactionID" in items[1],
    "answer-without-recipients": lambda items: items[0].keys() == {"transactionID"},
    "answer-code-zero": lambda items: items[0]["returnCode"] == "0" and "transactionID" in items[0],
    "answer-code-empty": lambda items: items[0]["returnCode"] == "" and "transactionID" in items[0],
}


def number(name: str) -> str:
    return "447700123" + behaviour.TABLE[name].tail


def test_every_behaviour_is_tested_here() -> None:
    tested = [*WORDS, *SHAPES, *DATETIMES, *UNREADABLE, *CALLS, *ITEMS]
    assert Counter(tested) == Counter(behaviour.TABLE.keys())


def test_no_two_behaviours_share_their_digits() -> None:
    tails = [row.tail for row in behaviour.TABLE.values()]
    assert len(set(tails)) == len(tails)
    assert all(len(tail) == 3 and tail.isdigit() for tail in tails)


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("is_sent_asked_for", [True, False])
def test_receipts_arrive_as_planned(
    start: Callable[..., Box], receiver: Receiver, name: str, is_sent_asked_for: bool
) -> None:
    box = start(late_seconds=0.01)
    asked = str(is_sent_asked_for).lower()
    send(box.soap_url, message(number(name), url=receiver.url, forwardSubmissionDeliveryStatus=asked))
    box.wait_idle(5)
    arrived = [arrival.fields["statusdescription"] for arrival in receiver.arrivals]
    assert arrived == [word for word in WORDS[name] if is_sent_asked_for or word != SENT]
    report = box.report()
    assert report["callbacks"]["made"] == report["callbacks"]["answered200"] == len(arrived)
    assert len(box.messages()[0]["planned"]) == len(box.messages()[0]["callbacks"]) == len(arrived)


def test_datetimes_have_the_true_order_in_any_order_of_arrival(box: Box, receiver: Receiver) -> None:
    send(box.soap_url, message(number("reorder"), url=receiver.url, forwardSubmissionDeliveryStatus="true"))
    box.wait_idle(5)
    delivered, sent = (arrival.fields for arrival in receiver.arrivals)
    assert sent["datetime"] < delivered["datetime"]


def test_a_duplicate_is_equal_byte_for_byte(box: Box, receiver: Receiver) -> None:
    send(box.soap_url, message(number("duplicate"), url=receiver.url))
    box.wait_idle(5)
    first, second = receiver.arrivals
    assert first == second


@pytest.mark.parametrize("name", SHAPES)
def test_a_receipt_has_the_form_of_its_behaviour(box: Box, receiver: Receiver, name: str) -> None:
    method, content_type, names = SHAPES[name]
    send(box.soap_url, message(number(name), url=receiver.url))
    box.wait_idle(5)
    [arrival] = receiver.arrivals
    assert (arrival.method, arrival.content_type) == (method, content_type)
    assert arrival.fields.keys() == names
    assert {key.lower(): value for key, value in arrival.fields.items()}["recipient"] == number(name)


def test_a_long_text_passes_4_kib_and_stays_below_8(box: Box, receiver: Receiver) -> None:
    send(box.soap_url, message(number("long-text"), url=receiver.url, text="Zażółć gęślą jaźń"))
    box.wait_idle(5)
    [arrival] = receiver.arrivals
    assert 4_096 < len(arrival.query) < 8_000


@pytest.mark.parametrize("name", DATETIMES)
def test_a_datetime_has_the_form_of_its_behaviour(box: Box, receiver: Receiver, name: str) -> None:
    send(box.soap_url, message(number(name), url=receiver.url))
    box.wait_idle(5)
    [arrival] = receiver.arrivals
    assert re.fullmatch(DATETIMES[name], arrival.fields["datetime"])


@pytest.mark.parametrize("name", sorted(UNREADABLE))
def test_an_unreadable_receipt_arrives_and_cannot_be_read(box: Box, receiver: Receiver, name: str) -> None:
    send(box.soap_url, message(number(name), url=receiver.url))
    box.wait_idle(5)
    [arrival] = receiver.arrivals
    assert len(arrival.query) + len(arrival.body) > 20
    with pytest.raises((ValueError, json.JSONDecodeError)):
        _ = arrival.fields
    assert box.report()["callbacks"]["answered200"] == 1


def how_it_ended(url: str, body: str) -> str:
    """One word or two for the end of a call."""
    started = time.monotonic()
    try:
        response = post(url, body)
    except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError):
        return "cut"
    seconds_to_head = response.elapsed.total_seconds()
    seconds_for_body = time.monotonic() - started - seconds_to_head
    content = response.content
    if b"MessageResult" in content:
        assert len(results(response)) == 1
        return "late" if seconds_to_head >= 0.6 else "dripped" if seconds_for_body >= 0.4 else "answered"
    kinds = {
        "blank": content.isspace() and len(content) == 3_000_000,
        "doctype": content.startswith(b'<?xml version="1.0"?><!DOCTYPE'),
        "words": content.startswith(b"OK"),
        "empty": content == b"",
        "fault": b":Fault>" in content,
        "html": b"<html>" in content,
    }
    return " ".join([str(response.status_code), *(kind for kind, fits in kinds.items() if fits)])


@pytest.mark.parametrize("name", CALLS)
def test_a_call_ends_badly_and_its_repeat_does_no_harm(
    start: Callable[..., Box], receiver: Receiver, name: str
) -> None:
    first, is_taken, second = CALLS[name]
    # The answer has more than 400 bytes, so that dripping takes 0.4 s at the least.
    box = start(slow_seconds=0.6, drip_seconds=0.001, huge_bytes=3_000_000)
    body = envelope(message(number(name), url=receiver.url, guid="guid-1"))
    assert how_it_ended(box.soap_url, body) == first
    assert len(box.messages()) == is_taken
    assert how_it_ended(box.soap_url, body) == second
    box.wait_idle(5)
    report = box.report()
    gets_receipt = second == "answered" and name != "lost-answer-silent"
    assert len(receiver.arrivals) == gets_receipt
    assert report["messageGuids"] == (second == "answered")
    assert report["duplicates"] == is_taken
    assert report["doubles"] == report["lookalikes"] == 0


def test_one_message_that_ends_a_call_ends_it_for_the_others_too(box: Box, receiver: Receiver) -> None:
    others = [message("447700900000", url=receiver.url, guid="a"), message("447700900111", url=receiver.url, guid="b")]
    body = envelope(others[0], message(number("fault"), guid="poison"), others[1])
    assert how_it_ended(box.soap_url, body) == "500 fault"
    assert box.messages() == []
    assert len(send(box.soap_url, *others)) == 2


def test_a_lost_answer_is_lost_once_for_all_messages_that_ask_for_it(box: Box) -> None:
    three = envelope(*(message(number("lost-answer"), guid=guid) for guid in "abc"))
    with pytest.raises(requests.exceptions.ConnectionError):
        post(box.soap_url, three)
    assert len(results(post(box.soap_url, three))) == 3


@pytest.mark.parametrize("name", ITEMS)
def test_an_item_is_answered_by_its_behaviour(box: Box, name: str) -> None:
    items = send(box.soap_url, message(number(name), guid="guid-1"), message("447700900000"))
    assert ITEMS[name](items)
    assert len(box.messages()) == (1 if name.startswith("refuse") else 2)


@pytest.mark.parametrize(("name", "repeated"), [
    ("refuse", {"recipients", "returnCode", "returnDescription", "returnDetail"}),
    ("refuse-once", {"recipients", "transactionID"}),
    ("answer-missing-item", {"recipients", "transactionID"}),
    ("answer-without-id", {"recipients", "transactionID"}),
])  # fmt: skip
def test_a_repeat_of_an_oddly_answered_item(box: Box, name: str, repeated: set[str]) -> None:
    send(box.soap_url, message(number(name), guid="guid-1"))
    [item] = send(box.soap_url, message(number(name), guid="guid-1"))
    assert item.keys() == repeated


def test_an_early_receipt_is_answered_before_the_send_call(box: Box, receiver: Receiver) -> None:
    def answer(_: Arrival) -> int:
        at_receipt.append(len(answered))
        return 200

    answered: list[dict[str, str]] = []
    at_receipt: list[int] = []
    receiver.answer = answer
    asked = {"forwardSubmissionDeliveryStatus": "true"}
    answered += send(box.soap_url, message(number("early"), url=receiver.url, **asked))
    # No waiting here: what was to come before the answer is there.
    assert at_receipt == [0, 0]
    assert box.report()["callbacks"]["answered200"] == 2


def test_a_delayed_receipt_is_still_to_come_after_the_answer(start: Callable[..., Box], receiver: Receiver) -> None:
    box = start(late_seconds=0.3)
    started = time.monotonic()
    send(box.soap_url, message(number("delay"), url=receiver.url))
    assert box.report()["pending"] == 1
    box.wait_idle(5)
    assert time.monotonic() - started >= 0.3
    assert len(receiver.arrivals) == 1


def test_a_fault_quotes_the_text_that_broke_the_call(box: Box) -> None:
    culprit = message(number("fault-quoting"), text="your password is 1234", guid="poison")
    answer = post(box.soap_url, envelope(message("447700900000", guid="a"), culprit))
    assert b"<faultstring>Message text 'your password is 1234' not allowed</faultstring>" in answer.content


def test_behaviours_can_be_set_for_a_text_and_for_an_account(start: Callable[..., Box]) -> None:
    box = start(texts={"your login": ("refuse-logon",)}, accounts={"": ("answer-code-zero",), "client": ("refuse",)})
    items = send(
        box.soap_url,
        message("447700900000", text="your login"),
        message("447700900111"),
        message("447700900222", impersonateUserName="client"),
    )
    assert [item["returnCode"] for item in items] == ["211", "0", "210"]


def test_defaults_numbers_and_digits_combine(start: Callable[..., Box], receiver: Receiver) -> None:
    box = start(default=("duplicate", "no-clientref"), numbers={"447700900555": ("post-json", "expired")})
    send(box.soap_url, message("447700900555", url=receiver.url))
    box.wait_idle(5)
    first, second = receiver.arrivals
    assert first == second
    assert (first.method, first.fields["statusdescription"]) == ("POST", EXPIRED)
    assert "clientref" not in first.fields


def test_digits_can_be_ignored(start: Callable[..., Box], receiver: Receiver) -> None:
    box = start(by_number=False)
    send(box.soap_url, message(number("undelivered"), url=receiver.url))
    box.wait_idle(5)
    assert [arrival.fields["statusdescription"] for arrival in receiver.arrivals] == [DELIVERED]


def test_a_chance_is_drawn_once_per_message_and_repeats_for_a_seed(start: Callable[..., Box]) -> None:
    def drawn(seed: int) -> list[bool]:
        box = start(chances={"duplicate": 0.3}, seed=seed)
        send(box.soap_url, *(message(f"44770080{place:04}") for place in range(100)))
        return [one["behaviours"] == ["duplicate"] for one in box.messages()]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 15 < sum(drawn(1)) < 45


def test_the_chance_of_a_lost_answer_is_drawn_once_per_call(start: Callable[..., Box]) -> None:
    box = start(chances={"lost-answer": 0.5})
    ends = []
    for place in range(30):
        two = (message("447700900000", guid=f"a{place}"), message("447700900111", guid=f"b{place}"))
        try:
            ends.append(len(send(box.soap_url, *two)))
        except requests.exceptions.ConnectionError:
            ends.append(0)
    assert set(ends) == {0, 2}
    assert box.report()["spoiledAnswers"] == ends.count(0)
    assert box.report()["messageGuids"] == 60
