"""Strangers who ask for the ops page without end do not take it from those who have signed in."""

import threading

import pytest
import requests

from receiptsvc.demo.processes import local_session
from tests.faults.conftest import StartWeb

pytestmark = pytest.mark.slow

STRANGERS, LOOKS = 48, 10
OWN = {"Sec-Fetch-Site": "same-origin"}


def test_the_page_opens_for_who_has_signed_in(sqlite_url: str, start_web: StartWeb) -> None:
    stack = start_web(sqlite_url)
    stop = threading.Event()

    def ask() -> None:
        with local_session() as stranger:
            while not stop.is_set():
                stranger.get(f"{stack.url}/ops", headers={"Cookie": "receiptsvc-ops=guessed.1.guessed"}, timeout=30)

    strangers = [threading.Thread(target=ask) for _ in range(STRANGERS)]
    with local_session() as person:
        found = person.post(f"{stack.url}/ops/sign-in", data={"secret": stack.api_key}, headers=OWN, timeout=30)
        assert found.status_code == 200
        for stranger in strangers:
            stranger.start()
        statuses = [person.get(f"{stack.url}/ops/search", timeout=30).status_code for _ in range(LOOKS)]
        stop.set()
        for stranger in strangers:
            stranger.join()
        form = "&".join(f"{n:04x}" for n in range(5_000))
        headers = {**OWN, "Content-Type": "application/x-www-form-urlencoded"}
        assert requests.post(f"{stack.url}/ops/sign-in", data=form, headers=headers, timeout=30).status_code == 413
    assert statuses == LOOKS * [200]
