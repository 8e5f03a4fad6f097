"""`export` against the real API, and against one that breaks off."""

import fcntl
import json
import os
import socket
import stat
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from tests.cli.conftest import Run, Service
from tests.support.processes import until


def test_an_export_goes_to_standard_output_or_to_a_private_file(service: Service, run: Run, tmp_path: Path) -> None:
    message = service.accept('Grüße, "Anna"\nund Otto', client_ref="order-1", originator="SHOP")
    service.accept("Hello", recipient="447700900002", client_ref="order-2")
    result = run("export")
    assert (result.exit_code, result.stderr) == (0, "")
    heading, *lines = result.stdout_bytes.decode().split("\r\n")
    assert heading.startswith("id,createdAt,recipient,")
    assert len(lines) == 3
    transitions = run("export", "transitions", "--client-ref", "order-1", "--format", "jsonl")
    assert [json.loads(line)["messageId"] for line in transitions.stdout.splitlines()] == [message]

    path = tmp_path / "messages.csv"
    nothing = run("export", "--since", "2030-01-01", "--output", str(path))
    assert nothing.stderr == f"Written to {path}: no messages since 2030-01-01T00:00:00Z.\n"
    path.write_text("an older one")
    path.chmod(0o644)
    written = run("export", "--to", "+44 7700 900001", "--bom", "--timezone", "Europe/London", "--output", str(path))
    assert (written.exit_code, written.stdout, written.stderr) == (0, "", f"Written to {path}: 1 message.\n")
    assert path.read_bytes().startswith(b"\xef\xbb\xbfid,")
    assert "2026-01-05T12:00:00.000000+00:00" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not list(tmp_path.glob(".messages*"))
    assert run("export", "-o", os.devnull).exit_code == 0
    assert not Path(os.devnull).is_file()


def test_each_filter_of_an_export_reaches_the_service(service: Service, run: Run) -> None:
    message = service.accept("Hello", client_ref="order-1", originator="SHOP")
    service.accept("Hello", recipient="447700900002", client_ref="other")
    service.report(message, statusid="2", statusdescription="delivered", transactionid="70000001")
    for options in (
        ("--to", "447700900001"),
        ("--to-ends", "0001"),
        ("--from", "SHOP"),
        ("--client-ref", "order-1"),
        ("--client-ref-prefix", "order"),
        ("--transaction-id", "70000001"),
        ("--status", "delivered"),
    ):
        (line,) = run("export", "--json", *options).stdout.splitlines()
        assert json.loads(line)["id"] == message, options
    assert run("export", "--json", "--until", "2026-01-05").stdout == ""
    wrong = run("export", "--timezone", "Nowhere/Else")
    assert (wrong.exit_code, wrong.stdout, "timezone: " in wrong.stderr, "Usage" in wrong.stderr) == (
        2,
        "",
        True,
        False,
    )
    assert run("export", "--json", "--bom").exit_code == 2


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n"
BROKEN = {
    "chunked, closed": HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nid\r\n\r\n",
    "chunked, closed within a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\nid\r\n",
    "of a length that it has not": HEAD + b"Content-Length: 9\r\n\r\nid\r\n",
    "by HTTP/1.0, reset": b"HTTP/1.0 200 OK\r\nContent-Type: text/csv\r\n\r\nid\r\n",
}


def break_off(connection: socket.socket, answer: bytes) -> None:
    """Read a request, and answer it so; by HTTP/1.0, where only a reset tells, reset the connection."""
    request = b""
    while not request.endswith(b"{}"):
        request += connection.recv(65_536)
    connection.sendall(answer)
    if answer.startswith(b"HTTP/1.0"):
        until(
            "the answer is read", lambda: struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"0000"))[0] == 0
        )
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def breaking_off(answer: bytes) -> Iterator[str]:
    """The address of a service whose answers end so."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                break_off(connection, answer)

    listener = socket.create_server(("127.0.0.1", 0))
    thread = Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_a_broken_export_ends_with_1_says_so_and_leaves_no_part_of_a_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    path = tmp_path / "exports" / "messages.csv"
    path.parent.mkdir()
    path.write_text("an older one")
    with breaking_off(answer) as url:
        monkeypatch.setenv("RECEIPTSVC_URL", url)
        result = run("export")
        to_file = run("export", "-o", str(path))
    assert (result.exit_code, b"id\r\n".startswith(result.stdout_bytes)) == (1, True)
    assert "broke off before its end; what was written is not all" in result.stderr
    assert (to_file.exit_code, to_file.stdout) == (1, "")
    assert f"{path} was not written" in to_file.stderr
    assert path.read_text() == "an older one"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_made_is_wrong_use(run: Run, tmp_path: Path) -> None:
    for target in (tmp_path / "missing" / "messages.csv", tmp_path):
        result = run("export", "-o", str(target))
        assert (result.exit_code, "can't be written" in result.stderr) == (2, True)
