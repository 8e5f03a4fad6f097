"""Where the web process listens, for how long it keeps what it accepted, and how many files it may open for that."""

import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from receiptsvc.locations import PROJECT
from tests.faults.conftest import StartWeb, callback_url
from tests.faults.test_connections import logged
from tests.support.forked import Stack
from tests.support.load import Answer, connect, read_answer, request
from tests.support.processes import until

ROUTERS_SECONDS = 90  # for which Heroku's router keeps a connection to a process that says nothing
SHORT_SECONDS = 5  # to which our own time is cut down for the test, and the router's in proportion

PROBE = b"HEAD /callbacks/receipts HTTP/1.1\r\nHost: here\r\nConnection: close\r\n%b\r\n"


def kept_seconds(environ: Mapping[str, str], folder: Path) -> int:
    """How long gunicorn.conf.py keeps an idle connection. `folder`: for what it makes beside that."""
    code = "import runpy; print(runpy.run_path('gunicorn.conf.py')['keepalive'])"
    command, environ = [sys.executable, "-c", code], {**environ, "TMPDIR": str(folder)}
    return int(subprocess.run(command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=True).stdout)


def test_the_router_closes_an_idle_connection_first(sqlite_url: str, start_web: StartWeb, tmp_path: Path) -> None:
    stack = start_web(sqlite_url, GUNICORN_CMD_ARGS=f"--keep-alive={SHORT_SECONDS}")
    routers_seconds = ROUTERS_SECONDS * SHORT_SECONDS / kept_seconds(stack.environ, tmp_path)
    url = callback_url(stack)
    with closing(connect(url)) as connection:
        connection.sendall(request(url, 1))
        assert read_answer(connection) == Answer(status=200, says_close=False)
        last_moment = time.monotonic() + routers_seconds
        until("the router's last moment", lambda: time.monotonic() >= last_moment)
        connection.sendall(request(url, 2))
        assert read_answer(connection) == Answer(status=200, says_close=False)


def answer(family: socket.AddressFamily, host: str, port: int, *headers: bytes) -> bytes:
    return ask(family, host, port, PROBE % b"".join(headers))


def ask(family: socket.AddressFamily, host: str, port: int, request: bytes) -> bytes:
    with socket.socket(family) as connection:
        connection.settimeout(10)
        connection.connect((host, port))
        connection.sendall(request)
        return connection.recv(65536)


def port_of(stack: Stack) -> int:
    return int(stack.environ["PORT"])


def test_it_listens_on_ipv6_and_ipv4(sqlite_url: str, start_web: StartWeb) -> None:
    stack = start_web(sqlite_url)
    for family, host in ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")):
        assert answer(family, host, port_of(stack)).startswith(b"HTTP/1.1 403 ")
    (line,) = logged(stack, "web.listening")
    assert line["families"] == "IPv6 and IPv4"


UNDER_PREFIX = b"GET /prefix/healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n%b\r\n"
PREFIXES = (b"SCRIPT_NAME: /prefix\r\n", b"Script_Name: /prefix\r\n")


@pytest.mark.parametrize(
    ("proxies", "trusted"),
    [("", set()), ("127.0.0.1", {"127.0.0.1"}), ("::/64", {"::1"}), ("10.0.0.1,::1,127.0.0.0/8", {"127.0.0.1", "::1"})],
)
def test_only_trusted_proxies_say_where_a_request_came_in(
    sqlite_url: str, start_web: StartWeb, proxies: str, trusted: set[str]
) -> None:
    stack = start_web(sqlite_url, TRUSTED_PROXIES=proxies, FORWARDED_ALLOW_IPS="*")
    for family, host in ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")):
        status = b"HTTP/1.1 200 " if host in trusted else b"HTTP/1.1 404 "
        for prefix in PREFIXES:
            assert ask(family, host, port_of(stack), UNDER_PREFIX % prefix).startswith(status), host
        assert ask(family, host, port_of(stack), UNDER_PREFIX % b"SCRIPT-NAME: /prefix\r\n").startswith(
            b"HTTP/1.1 404 "
        )
        # Only of a trusted one does the server see that its headers contradict each other.
        twice = b"X-Forwarded-Proto: http\r\nX-Forwarded-Proto: https\r\n"
        refused = b"HTTP/1.1 400 " if host in trusted else b"HTTP/1.1 403 "
        assert answer(family, host, port_of(stack), twice).startswith(refused), host


@pytest.mark.parametrize("target", ["/healthz", "/callbacks/receipts/nothing?a=1", "/nothing"])
def test_a_later_version_of_http_is_answered_as_1_1(sqlite_url: str, start_web: StartWeb, target: str) -> None:
    stack = start_web(sqlite_url)
    for version in ("1.1", "1.2", "1.9"):
        request = f"GET {target} HTTP/{version}\r\nHost: here\r\nConnection: close\r\n\r\n"
        assert ask(socket.AF_INET, "127.0.0.1", port_of(stack), request.encode()).startswith(b"HTTP/1.1 "), version


# What Python runs at the start of each process of the stack: a system without IPv6, as Linux is with ipv6.disable=1.
WITHOUT_IPV6 = """
import errno, socket
class Socket(socket.socket):
    def __init__(self, family=-1, *more, **others):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *more, **others)
socket.socket = Socket
"""


def test_where_ipv6_is_off_it_listens_on_ipv4_alone_and_says_so(
    sqlite_url: str, start_web: StartWeb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_IPV6)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    stack = start_web(sqlite_url)
    assert answer(socket.AF_INET, "127.0.0.1", port_of(stack)).startswith(b"HTTP/1.1 403 ")
    with pytest.raises(ConnectionRefusedError):
        answer(socket.AF_INET6, "::1", port_of(stack))
    (line,) = logged(stack, "web.listening")
    assert (line["addresses"], line["families"]) == ([f"0.0.0.0:{port_of(stack)}"], "IPv4 alone: IPv6 is off here")


@contextmanager
def soft_limit(open_files: int) -> Iterator[int]:
    """While the block lasts, what is started may open so few files until it asks for more. The hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_setting_names_the_address_and_the_open_file_limit_is_raised(sqlite_url: str, start_web: StartWeb) -> None:
    with soft_limit(256) as hard:
        stack = start_web(sqlite_url, LISTEN_ADDRESS="127.0.0.1")
    assert answer(socket.AF_INET, "127.0.0.1", port_of(stack)).startswith(b"HTTP/1.1 403 ")
    for family, host in ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.2")):
        with pytest.raises(ConnectionRefusedError):
            answer(family, host, port_of(stack))
    (line,) = logged(stack, "web.connections")
    assert line["open_files"] == min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536
    assert line["capacity"] > 256
