"""The whole way by REST, through real processes: what comes back, and that nothing unclear goes out again."""

import time
from pathlib import Path

import requests

from receiptsvc.cli.stack import Stack
from receiptsvc.store import verification
from receiptsvc.store.db import Database
from tests.whole.conftest import MakeStack

# By the last digits of the recipient's number: where it ends, and how many times it is given to the gateway.
ENDS = {
    "900": "delivered",
    "901": "undelivered",
    "910": "delivered",
    "913": "delivered",
    "940": "delivered",  # its answer was lost, its receipt settles it
    "941": "send_unknown",
    "942": "send_unknown",  # lost in truth, but nobody can know
    "943": "delivered",
    "947": "delivered",
    "949": "delivered",
    "950": "send_unknown",
    "953": "send_unknown",
    "960": "failed",
    "965": "delivered",  # its answer was a bare {}
}


def test_what_is_sent_by_rest_comes_back_and_nothing_unclear_goes_out_again(
    make_stack: MakeStack, database_url: str
) -> None:
    stack = make_stack(settings={"DYNMARK_TRANSPORT": "rest", "BATCH_SIZE": "1"})
    stack.start_all()
    client = stack.client()

    def report() -> dict[str, int]:
        counted: dict[str, int] = requests.get(f"{stack.sandbox_url}/sandbox/report", timeout=5).json()
        return counted

    def statuses() -> dict[str, str]:
        return {str(item["recipient"])[-3:]: str(item["status"]) for item in client.messages()}

    everything = {
        "originator": "+447740101097",
        "clientRef": "order-7",
        "countryIsoCode": "GBR",
        "deliverAfter": "2030-01-01T00:00:00Z",
        "validUntil": "2030-01-02T00:00:00Z",
        "filterSetName": "Night hours",
        "impersonateUserName": "client1",
        "rejectUnicode": True,
    }
    client.send([{"recipients": [f"07700900{tail}" for tail in ENDS], "text": "Hello", **everything}])
    stack.wait_until("each message has ended as it must", lambda: statuses() == ENDS)
    ended_at = time.monotonic()
    stack.wait_until("a repeat would have come", lambda: time.monotonic() - ended_at > 3)
    assert statuses() == ENDS

    counted = report()
    lost = {"942", "950", "953"}
    assert (counted["submissions"], counted["doubles"], counted["lookalikes"]) == (len(ENDS), 0, 0)
    assert (counted["restMessages"], counted["messageGuids"]) == (len(ENDS.keys() - lost - {"960"}), 0)
    taken = requests.get(f"{stack.sandbox_url}/sandbox/messages", timeout=5).json()
    assert {one["transport"] for one in taken} == {"rest"}
    assert (taken[0]["originator"], taken[0]["clientRef"]) == ("+447740101097", "order-7")
    assert taken[0]["fields"] == {
        "countryIsoCode": "GBR",
        "deliverAfter": "2030-01-01T00:00:00Z",
        "validiUntil": "2030-01-02T00:00:00Z",
        "filterSetName": "Night hours",
        "rejectUnicode": "true",
        "impersonateUserName": "client1",
    }
    database = Database(database_url)
    assert list(verification.verify(database)) == []
    database.close()


def test_refused_credentials_hold_all_messages_and_fail_none(sqlite_url: str, tmp_path: Path) -> None:
    settings, flags = {"DYNMARK_TRANSPORT": "rest"}, ["--username", "somebody-else"]
    with Stack(tmp_path / "stack", sqlite_url, settings=settings, sandbox_flags=flags) as stack:
        stack.start_all()
        client = stack.client()
        client.send([{"recipients": [f"4477009000{n:02}" for n in range(5)], "text": "Hello"}])
        stack.wait_until("the account is refused", lambda: "send.account_refused" in stack.tail("worker"))
        assert {item["status"] for item in client.messages()} == {"accepted"}
        requests.post(f"{stack.sandbox_url}/sandbox/behaviour", json={"username": None}, timeout=5).raise_for_status()
        stack.wait_until("a probe has got through", lambda: {m["status"] for m in client.messages()} == {"delivered"})
