"""A callback counts only if it is answered 200 in time, and the sandbox's report says how many were."""

import socket
import threading
import time
from collections.abc import Callable

import pytest

from receiptsvc.sandbox import Box
from tests.sandbox.receiver import Arrival, Receiver, message, send

PERSON = "447700900000"


def test_a_callback_not_answered_in_time_is_a_failure_and_given_up(
    start: Callable[..., Box], receiver: Receiver
) -> None:
    box = start(callback_limit_seconds=0.3)
    receiver.answer = receiver.hang
    started = time.monotonic()
    send(box.soap_url, message(PERSON, url=receiver.url))
    box.wait_idle(5)
    assert 0.3 <= time.monotonic() - started < 3
    callbacks = box.report()["callbacks"]
    [failure] = callbacks["failures"]
    assert (callbacks["made"], callbacks["answered200"], callbacks["failed"], callbacks["givenUp"]) == (1, 0, 1, 1)
    assert (failure["answer"], failure["error"], failure["givenUp"]) == (None, "no answer in time", True)
    assert failure["transactionID"] == box.messages()[0]["transactionID"]
    assert box.messages()[0]["callbacks"][0]["error"] == "no answer in time"
    assert len(receiver.arrivals) == 1


def test_a_dripping_answer_does_not_stretch_the_limit(start: Callable[..., Box]) -> None:
    box = start(callback_limit_seconds=0.3)
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                while not ended.wait(0.02):
                    try:
                        connection.sendall(b"H")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        started = time.monotonic()
        send(box.soap_url, message(PERSON, url=f"http://127.0.0.1:{listener.getsockname()[1]}/"))
        box.wait_idle(5)
        seconds = time.monotonic() - started
        ended.set()
        thread.join()
    assert 0.3 <= seconds < 3
    assert [failure["error"] for failure in box.report()["callbacks"]["failures"]] == ["no answer in time"]


@pytest.mark.parametrize("status", [201, 204, 302, 403, 500, 503, None])
def test_anything_but_200_is_a_failure(box: Box, receiver: Receiver, status: int | None) -> None:
    receiver.answer = lambda _: status
    send(box.soap_url, message(PERSON, url=receiver.url))
    box.wait_idle(5)
    [failure] = box.report()["callbacks"]["failures"]
    assert failure["answer"] == status
    assert bool(failure["error"]) == (status is None)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "ftp://127.0.0.1/", "http://[broken/", "no address"])
def test_an_address_without_a_server_is_a_failure(box: Box, url: str) -> None:
    send(box.soap_url, message(PERSON, url=url))
    box.wait_idle(5)
    [failure] = box.report()["callbacks"]["failures"]
    assert failure["answer"] is None
    assert failure["error"]


def failing(times: int) -> Callable[[Arrival], int]:
    """503 so many times, then 200."""
    answers = iter([503] * times)
    return lambda _: next(answers, 200)


@pytest.mark.parametrize(("recipient", "retries", "failures", "made", "given_up"), [
    (PERSON, 0, 1, 1, 1),
    (PERSON, 2, 2, 3, 0),
    (PERSON, 2, 3, 3, 1),
    ("447700900914", 0, 3, 4, 0),
    ("447700900914", 0, 4, 4, 1),
])  # fmt: skip
def test_failed_callbacks_are_retried_as_often_as_set(
    start: Callable[..., Box],
    receiver: Receiver,
    *,
    recipient: str,
    retries: int,
    failures: int,
    made: int,
    given_up: int,
) -> None:
    box = start(retries=retries, retry_gap_seconds=0.005)
    receiver.answer = failing(failures)
    send(box.soap_url, message(recipient, url=receiver.url))
    box.wait_idle(5)
    callbacks = box.report()["callbacks"]
    assert (callbacks["made"], callbacks["failed"], callbacks["givenUp"]) == (made, min(failures, made), given_up)
    assert len(set(receiver.arrivals)) == 1
    assert len(receiver.arrivals) == len(box.messages()[0]["callbacks"]) == made


def test_a_failed_receipt_does_not_hold_up_the_next_one(box: Box, receiver: Receiver) -> None:
    receiver.answer = failing(1)
    send(box.soap_url, message(PERSON, url=receiver.url, forwardSubmissionDeliveryStatus="true"))
    box.wait_idle(5)
    assert [arrival.fields["statusid"] for arrival in receiver.arrivals] == ["2", "1"]


def test_parameters_are_added_to_an_existing_query(box: Box, receiver: Receiver) -> None:
    send(box.soap_url, message(PERSON, url=receiver.url + "?key=a%2Fb", clientRef="50% & more/ü"))
    box.wait_idle(5)
    [arrival] = receiver.arrivals
    assert arrival.fields["key"] == "a/b"
    assert arrival.fields["clientref"] == "50% & more/ü"


def test_pending_counts_what_is_still_to_be_made(start: Callable[..., Box], receiver: Receiver) -> None:
    box = start(delay_seconds=60)
    send(box.soap_url, message(PERSON, url=receiver.url, forwardSubmissionDeliveryStatus="true"))
    assert box.report()["pending"] == 2
    with pytest.raises(TimeoutError, match="2 callbacks"):
        box.wait_idle(0.01)


def test_it_stops_at_once_while_callbacks_are_planned_and_running(
    start: Callable[..., Box], receiver: Receiver
) -> None:
    box = start(senders=1)
    reached = threading.Event()

    def hang(arrival: Arrival) -> int:
        reached.set()
        return receiver.hang(arrival)

    receiver.answer = hang
    send(box.soap_url, *(message(f"44770080000{place}", url=receiver.url) for place in range(5)))
    assert reached.wait(5)
    started = time.monotonic()
    box.stop()
    assert time.monotonic() - started < 2


def test_many_receipts_arrive_over_few_connections(start: Callable[..., Box], receiver: Receiver) -> None:
    box = start(senders=3)
    for batch in range(4):
        send(box.soap_url, *(message(f"4477008{batch}{place:04}", url=receiver.url) for place in range(50)))
    box.wait_idle(20)
    assert len({arrival.fields["recipient"] for arrival in receiver.arrivals}) == 200
    assert box.report()["callbacks"]["failed"] == 0
