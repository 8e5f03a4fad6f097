"""The application on threads: which bodies are read for it, and how many requests wait for its threads."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import gevent
import pytest

from receiptsvc.server import wsgi_bridge
from receiptsvc.server.wsgi_bridge import WsgiBridge

MAX_BYTES = 100
RESERVED = "/reserved"
SIGNED_IN, OTHER = "session=seen", "session=other"
PAGE = "/page"


class Inner:
    """An application that answers with the length and the body it received, once it may."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.waiting: Counter[str] = Counter()
        self.keys: list[str] = []  # of the requests that it was given

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.waiting[environ["PATH_INFO"]] += 1
        self.keys.append(environ.get("HTTP_AUTHORIZATION", ""))
        self.may_answer.wait(20)
        start_response("200 OK", [])
        return [environ["CONTENT_LENGTH"].encode(), b" ", environ["wsgi.input"].read()]


@pytest.fixture
def inner() -> Iterator[Inner]:
    inner = Inner()
    yield inner
    inner.may_answer.set()


Call = Callable[..., tuple[int, bytes]]


@pytest.fixture
def call(inner: Inner) -> Call:
    def find_key(authorization: str) -> str | None:
        return authorization.removeprefix("Bearer ") or None

    application = WsgiBridge(
        inner,
        threads=2,
        max_bytes=MAX_BYTES,
        find_key=find_key,
        reserved_paths=frozenset({RESERVED}),
        page_path=PAGE,
        find_person=lambda cookie: cookie if cookie in {SIGNED_IN, OTHER} else None,
    )

    def call(body: bytes = b"", *, key: str = "a", path: str = "/", **more: object) -> tuple[int, bytes]:
        started: list[Any] = []
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path,
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_AUTHORIZATION": f"Bearer {key}",
            "wsgi.input": BytesIO(body),
            **more,
        }
        chunks = b"".join(application(environ, lambda *arguments: started.extend(arguments)))  # type: ignore[arg-type]  # nothing is written
        return int(started[0][:3]), chunks

    return call


def test_what_reads_for_one_key_leaves_a_connection_to_others(inner: Inner) -> None:
    application = WsgiBridge(inner, threads=16, max_bytes=MAX_BYTES, connections=3, find_key=lambda key: key or None)

    def ask(key: str) -> None:
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "CONTENT_LENGTH": "", "HTTP_AUTHORIZATION": key}
        application(environ, lambda *_: bytes)

    inner.may_answer.clear()
    readers = [gevent.spawn(ask, "greedy") for _ in range(10)]
    readers.append(gevent.spawn(ask, "other"))
    with gevent.Timeout(20):
        while len(inner.keys) < 3 or "other" not in inner.keys:
            gevent.sleep(0.01)
    assert sorted(inner.keys) == ["greedy", "greedy", "other"]
    inner.may_answer.set()
    gevent.joinall(readers, raise_error=True)


def test_a_body_is_read_only_with_a_right_key(call: Call) -> None:
    assert call(b"body") == (200, b"4 body")
    assert call(b"body", key="") == (200, b"4 ")


@pytest.mark.parametrize("path", [PAGE, f"{PAGE}/search"])
def test_the_forms_of_a_page_are_read_without_a_key(call: Call, path: str) -> None:
    assert call(b"q=1", key="", path=path) == (200, b"3 q=1")


def test_a_form_that_is_too_long_is_answered_with_a_problem(call: Call) -> None:
    status, body = call(b"x" * (wsgi_bridge.MAX_FORM_BYTES + 1), key="", path=PAGE)
    assert (status, json.loads(body)["status"]) == (413, 413)


def test_what_only_begins_like_a_page_is_none(call: Call) -> None:
    assert call(b"body", key="", path=f"{PAGE}s") == (200, b"4 ")


def test_a_page_opens_while_all_other_threads_wait(call: Call, inner: Inner) -> None:
    inner.may_answer.clear()
    waiting = [
        gevent.spawn(call, key=f"key {each}", REQUEST_METHOD=method) for each in range(4) for method in ("GET", "POST")
    ]
    gevent.sleep(0.1)
    pages = [gevent.spawn(call, b"q=1", key="", path=PAGE)]
    gevent.sleep(0.1)
    assert inner.waiting == {"/": 2, PAGE: 1}
    inner.may_answer.set()
    gevent.joinall([*waiting, *pages], timeout=10)


def test_the_application_refuses_a_body_that_is_too_long(call: Call) -> None:
    assert call(b"x" * MAX_BYTES) == (200, b"100 " + b"x" * MAX_BYTES)
    assert call(b"x" * 150) == (200, b"150 ")
    chunked = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}
    assert call(b"x" * 150, **chunked) == (200, b"101 ")
    assert call(b"x" * MAX_BYTES, **chunked)[0] == 200


def test_a_body_that_ends_early_is_answered_with_a_problem(call: Call) -> None:
    status, body = call(b"half", CONTENT_LENGTH="8")
    assert (status, json.loads(body)["status"]) == (400, 400)


def test_requests_without_a_key_beyond_a_limit_are_answered_503(call: Call, inner: Inner) -> None:
    inner.may_answer.clear()
    waiting = [gevent.spawn(call, key="") for _ in range(wsgi_bridge._MAX_UNAUTHENTICATED)]  # noqa: SLF001 - the bound
    with_key = [gevent.spawn(call) for _ in range(5)]
    gevent.sleep(0.1)
    status, body = call(key="")
    assert (status, json.loads(body)["status"]) == (503, 503)
    reserved = gevent.spawn(call, key="", path=RESERVED)
    inner.may_answer.set()
    gevent.joinall([*waiting, *with_key, reserved], timeout=10)
    assert {request.value[0] for request in (*waiting, *with_key, reserved)} == {200}
    assert call(key="")[0] == 200


def test_what_writes_for_one_key_leaves_a_writer_to_others(inner: Inner) -> None:
    application = WsgiBridge(inner, threads=16, max_bytes=MAX_BYTES, connections=3, find_key=lambda key: key or None)

    def ask(key: str) -> None:
        environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "CONTENT_LENGTH": "", "HTTP_AUTHORIZATION": key}
        application(environ, lambda *_: bytes)

    inner.may_answer.clear()
    writers = [gevent.spawn(ask, "greedy") for _ in range(10)]
    writers.append(gevent.spawn(ask, "other"))
    with gevent.Timeout(20):
        while len(inner.keys) < 2 or "other" not in inner.keys:
            gevent.sleep(0.01)
    assert sorted(inner.keys) == ["greedy", "other"]
    inner.may_answer.set()
    gevent.joinall(writers, raise_error=True)


def test_a_page_opens_for_who_has_signed_in_while_strangers_ask_for_it_without_end(call: Call, inner: Inner) -> None:
    inner.may_answer.clear()
    strangers = [gevent.spawn(call, b"q=1", key="", path=PAGE) for _ in range(60)]
    gevent.sleep(0.1)
    person = gevent.spawn(call, b"q=1", key="", path=f"{PAGE}/search", HTTP_COOKIE=SIGNED_IN)
    gevent.sleep(0.1)
    assert inner.waiting == {PAGE: 4, f"{PAGE}/search": 1}
    inner.may_answer.set()
    gevent.joinall([*strangers, person], timeout=10)
    assert person.value[0] == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_page_opens_while_somebody_else_asks_for_many(call: Call, inner: Inner, method: str) -> None:
    inner.may_answer.clear()
    greedy = [
        gevent.spawn(call, b"q=1", key="", path=PAGE, REQUEST_METHOD=each, HTTP_COOKIE=SIGNED_IN)
        for each in ("GET", "POST")
        for _ in range(30)
    ]
    gevent.sleep(0.1)
    other = gevent.spawn(call, b"", key="", path=f"{PAGE}/search", REQUEST_METHOD=method, HTTP_COOKIE=OTHER)
    gevent.sleep(0.1)
    assert inner.waiting == {PAGE: 4, f"{PAGE}/search": 1}
    inner.may_answer.set()
    gevent.joinall([*greedy, other], timeout=10)
    assert other.value[0] == 200


def test_a_page_opens_while_the_same_person_s_forms_take_long(call: Call, inner: Inner) -> None:
    inner.may_answer.clear()
    forms = [gevent.spawn(call, b"q=1", key="", path=PAGE, HTTP_COOKIE=SIGNED_IN) for _ in range(10)]
    gevent.sleep(0.1)
    page = gevent.spawn(call, b"", key="", path=f"{PAGE}/search", REQUEST_METHOD="GET", HTTP_COOKIE=SIGNED_IN)
    gevent.sleep(0.1)
    assert inner.waiting == {PAGE: 2, f"{PAGE}/search": 1}
    inner.may_answer.set()
    gevent.joinall([*forms, page], timeout=10)


def test_the_form_of_a_stranger_is_short(call: Call) -> None:
    form = b"x" * (wsgi_bridge.MAX_STRANGERS_FORM_BYTES + 1)
    assert call(form, key="", path=PAGE)[0] == 413
    assert call(form, key="", path=PAGE, HTTP_COOKIE=SIGNED_IN)[0] == 200
