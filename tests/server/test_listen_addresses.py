"""Why nothing can listen on an address is one line with a remedy."""

import errno
import socket

import pytest

from receiptsvc.server.listen_addresses import explain, find_fault


def test_a_port_in_use_is_named_with_its_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = other.getsockname()
        fault = find_fault([address], patience_seconds=0)
    assert fault == (
        f"can't listen on 127.0.0.1:{address[1]}: in use by another process: stop that one, or set PORT to a free port"
    )
    assert find_fault([address], patience_seconds=0) is None


def test_an_address_that_this_machine_lacks_is_named_with_its_remedy() -> None:
    assert find_fault([("192.0.2.1", 8000)], patience_seconds=0) == (
        "can't listen on 192.0.2.1:8000: this machine has no such address: correct LISTEN_ADDRESS, or leave it out"
    )


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "this user may not listen there: set PORT to 1024 or above"),
        (errno.ENOBUFS, "No buffer space available"),
    ],
)
def test_other_faults_are_said_too(number: int, words: str) -> None:
    error = OSError(number, "No buffer space available")
    assert explain(error, "[::]:80") == f"can't listen on [::]:80: {words}"


def test_what_gunicorn_is_given_otherwise_is_its_own_affair() -> None:
    assert find_fault([3, "/run/web.sock"], patience_seconds=0) is None
