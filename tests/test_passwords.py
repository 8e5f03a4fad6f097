"""Passwords are stored as scrypt hashes, and a name that nobody has takes as long to refuse as any other."""

import hashlib
import threading
from typing import Any

import pytest

from receiptsvc import passwords

PASSWORD = "correct horse battery"


def test_only_the_same_password_is_right() -> None:
    stored = passwords.hash_of(PASSWORD)
    assert PASSWORD not in stored
    assert passwords.hash_of(PASSWORD) != stored, "each has a salt of its own"
    assert passwords.is_right(PASSWORD, stored)
    assert not passwords.is_right(f"{PASSWORD}s", stored)


def test_nobodys_password_costs_the_same_and_is_never_right(monkeypatch: pytest.MonkeyPatch) -> None:
    costs: list[Any] = []
    scrypt = hashlib.scrypt

    def count(*arguments: Any, **options: Any) -> bytes:
        costs.append((options["n"], options["r"], options["p"]))
        return scrypt(*arguments, **options)

    stored = passwords.hash_of(PASSWORD)
    passwords.is_right("x", None)  # the first one makes what the others are compared with
    monkeypatch.setattr(hashlib, "scrypt", count)
    assert not passwords.is_right(PASSWORD, stored + "0")
    assert not passwords.is_right(PASSWORD, None)
    assert costs == [(32768, 8, 3)] * 2


def test_a_generated_password_can_be_had() -> None:
    assert passwords.find_fault(passwords.generate()) is None
    assert passwords.generate() != passwords.generate()


@pytest.mark.parametrize("password", ["", "short", "x" * 11, "x" * 1025, "aaaaaaaaaaaaaaaa", "abababababab"])
def test_a_weak_password_is_refused(password: str) -> None:
    assert passwords.find_fault(password) is not None


def test_no_more_than_two_are_checked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, most, lock, both = 0, 0, threading.Lock(), threading.Barrier(2)

    def check(_stored: str, _password: str) -> bool:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        both.wait(20)
        with lock:
            at_once -= 1
        return True

    monkeypatch.setattr(passwords, "check_password_hash", check)
    threads = [threading.Thread(target=passwords.is_right, args=("x", "y")) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == 2
