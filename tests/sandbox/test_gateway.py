"""What the sandbox remembers (messageGuids, the last clientRef to a number), and its control API."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from receiptsvc.sandbox import Box
from tests.sandbox.receiver import Receiver, message, send

PERSON = "447700900000"


def command(box: Box, name: str, **payload: object) -> requests.Response:
    return requests.post(f"{box.url}/sandbox/{name}", json=payload, timeout=5)


@pytest.mark.parametrize(("style", "repeated"), [
    ("first", {"transactionID": "70000001", "recipients": PERSON}),
    ("new", {"transactionID": "70000002", "recipients": PERSON}),
    ("none", {"recipients": PERSON}),
    ("code", {
        "recipients": PERSON,
        "returnCode": "301",
        "returnDescription": "Duplicate messageGuid",
        "returnDetail": "submitted before",
    }),
])  # fmt: skip
def test_a_repeated_guid_is_ignored_and_answered_in_the_chosen_way(
    start: Callable[..., Box], receiver: Receiver, style: str, repeated: dict[str, str]
) -> None:
    box = start(duplicate_answer=style)
    submission = message(PERSON, url=receiver.url, guid="guid-1")
    send(box.soap_url, submission)
    assert send(box.soap_url, submission) == [repeated]
    box.wait_idle(5)
    report = box.report()
    assert len(receiver.arrivals) == len(box.messages()) == 1
    assert (report["submissions"], report["messageGuids"], report["duplicates"], report["doubles"]) == (2, 1, 1, 0)


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Switch threads as often as possible, so that unguarded code breaks."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_threads")
def test_the_same_guids_at_the_same_time_are_taken_once(box: Box, receiver: Receiver) -> None:
    together = threading.Barrier(4)
    batch = [message(f"4477008{index:05}", url=receiver.url, guid=f"guid-{index}") for index in range(50)]

    def submit(_: int) -> tuple[str, ...]:
        together.wait(5)
        return tuple(result["transactionID"] for result in send(box.soap_url, *batch))

    with ThreadPoolExecutor(4) as pool:
        answers = set(pool.map(submit, range(4)))
    box.wait_idle(20)
    report = box.report()
    assert len(answers) == 1
    assert len(receiver.arrivals) == len(box.messages()) == report["messageGuids"] == 50
    assert (report["duplicates"], report["doubles"], report["lookalikes"]) == (150, 0, 0)


def test_the_same_guid_twice_in_a_call_is_taken_once(box: Box) -> None:
    first, second = send(box.soap_url, message(PERSON, guid="a"), message(PERSON, guid="A"))
    assert first == second
    assert len(box.messages()) == 1


def test_a_refused_guid_is_not_remembered(box: Box) -> None:
    send(box.soap_url, message(PERSON, guid="a", text=""))
    [taken] = send(box.soap_url, message(PERSON, guid="a"))
    assert "returnCode" not in taken


def test_a_message_without_a_guid_is_given_one_and_never_a_duplicate(box: Box) -> None:
    for _ in range(2):
        send(box.soap_url, message(PERSON))
    first, second = box.messages()
    assert len(first["messageGuid"]) == 36
    assert first["messageGuid"] != second["messageGuid"]
    assert box.report()["duplicates"] == 0
    assert box.report()["lookalikes"] == 1


def test_a_forgotten_guid_is_taken_again_and_counted_as_a_double(start: Callable[..., Box]) -> None:
    box = start(guid_memory_seconds=0)
    for _ in range(2):
        send(box.soap_url, message(PERSON, guid="a"))
    assert len(box.messages()) == 2
    assert box.report()["doubles"] == 1


@pytest.mark.parametrize(("payload", "client_ref"), [
    ({}, "second"),
    ({"clientRef": "mine"}, "mine"),
    ({"clientRef": None}, None),
])  # fmt: skip
def test_a_reply_has_the_client_ref_of_the_last_message(
    start: Callable[..., Box], receiver: Receiver, payload: dict[str, object], client_ref: str | None
) -> None:
    box = start(reply_url=receiver.url + "/inbound")
    send(box.soap_url, message(PERSON, clientRef="first"))
    send(box.soap_url, message(PERSON, clientRef="second"))
    answer = command(box, "reply", sender=PERSON, recipient="447700900555", content="Yes & no ✓", **payload).json()
    assert (answer["msgid"], answer["answer"]) == ("1", 200)
    [arrival] = receiver.arrivals
    assert (arrival.method, arrival.path) == ("GET", "/receipts/inbound")
    fields = arrival.fields
    at = fields.pop("datetime")
    assert len(at) == len("11 Jan 2016 17:46:51")
    expected = {"msgid": "1", "sender": PERSON, "recipient": "447700900555", "content": "Yes & no ✓"}
    assert fields == expected | ({} if client_ref is None else {"clientref": client_ref})


def test_replies_count_up_and_may_repeat_a_msgid(start: Callable[..., Box], receiver: Receiver) -> None:
    box = start(reply_url=receiver.url)
    for payload in ({}, {}, {"msgid": 1}):
        assert command(box, "reply", sender=PERSON, recipient="447700900555", content="Yes", **payload).ok
    assert [arrival.fields["msgid"] for arrival in receiver.arrivals] == ["1", "2", "1"]


def test_behaviour_can_change_while_it_runs(box: Box, receiver: Receiver) -> None:
    assert command(box, "behaviour", default="undelivered", reply_url=receiver.url).json() == {
        "changed": ["default", "reply_url"]
    }
    send(box.soap_url, message(PERSON, url=receiver.url))
    command(box, "behaviour", default=None, numbers={PERSON: ["expired"]})
    send(box.soap_url, message(PERSON, url=receiver.url), message("447700900111", url=receiver.url))
    box.wait_idle(5)
    assert [entry["planned"] for entry in box.messages()] == [["undelivered"], ["expired"], ["delivered"]]


def test_the_credentials_can_change_while_it_runs(box: Box) -> None:
    command(box, "behaviour", username="me", password="other")
    assert send(box.soap_url, message(PERSON))[0]["returnCode"] == "101"
    command(box, "behaviour", password="secret")
    assert "returnCode" not in send(box.soap_url, message(PERSON))[0]


@pytest.mark.parametrize(("name", "body", "named"), [
    ("behaviour", {"default": "nonsense"}, "default"),
    ("behaviour", {"default": 7}, "default"),
    ("behaviour", {"chances": {"duplicate": 2}}, "chances"),
    ("behaviour", {"numbers": {PERSON: "nonsense"}}, "numbers"),
    ("behaviour", {"delay_seconds": -1}, "delay_seconds"),
    ("behaviour", {"delay_seconds": None}, "delay_seconds"),
    ("behaviour", {"retries": True}, "retries"),
    ("behaviour", {"logon_style": "loud"}, "logon_style"),
    ("behaviour", {"reply_url": "ftp://example.com"}, "reply_url"),
    ("behaviour", {"by_number": 1}, "by_number"),
    ("behaviour", {"port": 80}, "port"),
    ("behaviour", [], "object"),
    ("reply", {"sender": PERSON, "recipient": PERSON, "content": "Yes"}, "reply_url"),
    ("reply", {"sender": PERSON, "content": "Yes"}, "recipient"),
    ("callback", {}, "url"),
    ("callback", {"url": "http://127.0.0.1:1/", "fields": [1]}, "fields"),
])  # fmt: skip
def test_a_command_with_a_bad_value_is_refused_by_its_name(box: Box, name: str, body: object, named: str) -> None:
    response = requests.post(f"{box.url}/sandbox/{name}", json=body, timeout=5)
    assert response.status_code == 400
    assert named in response.json()["error"]


@pytest.mark.parametrize(("payload", "method", "query", "body"), [
    ({"fields": {"a": "1 2"}}, "GET", "a=1%202", b""),
    ({"method": "POST", "contentType": "text/plain", "body": "raw"}, "POST", "", b"raw"),
    ({"method": "HEAD"}, "HEAD", "", b""),
])  # fmt: skip
def test_a_test_can_send_a_callback_of_its_own(
    box: Box, receiver: Receiver, *, payload: dict[str, object], method: str, query: str, body: bytes
) -> None:
    receiver.answer = lambda _: 403
    assert command(box, "callback", url=receiver.url, **payload).json()["answer"] == 403
    [arrival] = receiver.arrivals
    assert (arrival.method, arrival.query, arrival.body) == (method, query, body)
    assert box.report()["callbacks"]["failed"] == 1


def test_report_and_messages_are_the_same_over_http_and_in_process(box: Box, receiver: Receiver) -> None:
    send(box.soap_url, message(PERSON, url=receiver.url))
    box.wait_idle(5)
    assert requests.get(f"{box.url}/sandbox/report", timeout=5).json() == box.report()
    assert requests.get(f"{box.url}/sandbox/messages", timeout=5).json() == box.messages()


def test_only_the_newest_messages_are_shown(start: Callable[..., Box]) -> None:
    box = start(keep_messages=2)
    send(box.soap_url, *(message(f"44770080000{index}") for index in range(3)))
    assert [entry["recipient"] for entry in box.messages()] == ["447700800001", "447700800002"]
    assert box.report()["messageGuids"] == 3
