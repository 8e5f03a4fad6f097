"""The client: against the real service, against answers that receiptsvc would not give, and its settings."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from receiptsvc.client import ApiError, Client, Unreachable, environment, wire
from receiptsvc.client.wire import Json
from receiptsvc.domain.errors import SettingsError
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from tests.support import rows, stories
from tests.support.callers import ALL, make_settings

KEY = "a-key-of-sixteen-or-more"


@contextmanager
def answering(answer: Callable[[Request], Response]) -> Iterator[Client]:
    """A client of a server that gives these answers."""
    server = make_server("127.0.0.1", 0, Request.application(answer), threaded=True)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield Client(f"http://127.0.0.1:{server.server_port}/", KEY)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def give(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Callable[[Request], Response]:
    body = content if isinstance(content, str) else json.dumps(content)
    return lambda _: Response(body, status, headers, content_type="application/json")


def test_the_key_is_sent_as_a_bearer_token_and_no_netrc_replaces_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setattr(wire, "_LOOPBACK", frozenset())
    with answering(lambda request: Response(json.dumps({"key": request.headers["Authorization"]}))) as client:
        assert client.ledger() == {"key": f"Bearer {KEY}"}


def test_a_loopback_service_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with answering(give({"balanced": True})) as client:
        assert client.ledger() == {"balanced": True}


def test_lists_are_read_page_by_page_with_the_filters_kept() -> None:
    pages = {"": ([1, 2], "a"), "a": ([3], "b&c=d"), "b&c=d": ([4], None)}
    asked: list[dict[str, object]] = []

    def answer(request: Request) -> Response:
        asked.append(request.get_json())
        items, cursor = pages[request.get_json().get("cursor", "")]
        return Response(json.dumps({"items": [{"id": item} for item in items], "nextCursor": cursor}))

    with answering(answer) as client:
        assert [item["id"] for item in client.messages(clientRef="ä/b&c")] == [1, 2, 3, 4]
    assert [query["clientRef"] for query in asked] == ["ä/b&c"] * 3


def test_a_repeated_cursor_ends_the_list() -> None:
    with answering(give({"items": [{"id": 1}], "nextCursor": "same"})) as client:
        assert len(list(client.messages())) == 2


def test_a_conversation_has_the_timeline_of_all_its_pages() -> None:
    def answer(request: Request) -> Response:
        second = "cursor" in request.get_json()
        return Response(
            json.dumps(
                {"id": "cnv_1", "timeline": [{"type": "second" if second else "first"}]}
                | {"nextCursor": None if second else "x"}
            )
        )

    with answering(answer) as client:
        told = client.conversation("..")
    assert [entry["type"] for entry in told["timeline"]] == ["first", "second"]
    assert told["nextCursor"] is None


def test_an_id_is_one_segment_of_the_path() -> None:
    with answering(lambda request: Response(json.dumps({"path": request.environ["REQUEST_URI"]}))) as client:
        assert client.message("a/../b?c=d")["path"] == "/v1/messages/a%2F..%2Fb%3Fc%3Dd"


def test_an_api_error_has_the_problems_detail_and_errors() -> None:
    problem = {"title": "Unprocessable", "detail": "two faults", "errors": {"messages[0].text": ["too long"]}}
    with answering(give(problem, 422)) as client, pytest.raises(ApiError) as caught:
        client.send([{"text": "secret text"}])
    error = caught.value
    assert (error.status, error.title, error.detail) == (422, "Unprocessable", "two faults")
    assert error.errors == {"messages[0].text": ["too long"]}
    assert str(error) == "Unprocessable (HTTP 422)"


@pytest.mark.parametrize(
    ("status", "headers", "seconds", "retry_helps"),
    [
        (409, {"Retry-After": "1"}, 1, True),
        (409, {}, None, False),
        (422, {"Retry-After": "1"}, 1, False),
        (429, {"Retry-After": "30"}, 30, True),
        (503, {}, None, True),
        (502, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None, True),
    ],
)
def test_an_api_error_says_whether_and_when_to_retry(
    status: int, headers: dict[str, str], seconds: int | None, retry_helps: bool
) -> None:
    with answering(give({"title": "x"}, status, headers)) as client, pytest.raises(ApiError) as caught:
        client.send([{}])
    assert (caught.value.retry_after_seconds, caught.value.retry_helps) == (seconds, retry_helps)


def test_an_idempotency_key_and_a_dry_run_are_sent_along() -> None:
    asked: list[tuple[str, str | None]] = []

    def answer(request: Request) -> Response:
        asked.append((request.query_string.decode(), request.headers.get("Idempotency-Key")))
        return Response(json.dumps({"messages": [{"recipient": "1"}], "warnings": ["left out"]}))

    with answering(answer) as client:
        assert client.send([{}], "k-1") == [{"recipient": "1"}]
        assert client.submit([{}], dry_run=True)["warnings"] == ["left out"]
    assert asked == [("", "k-1"), ("dryRun=true", None)]


def test_a_service_that_ignores_dry_run_is_an_error() -> None:
    with answering(give({"messages": [{"id": "msg_1"}]}, 202)) as client, pytest.raises(ApiError, match="no dry run"):
        client.send([{}], dry_run=True)


def test_lookups_are_split_into_calls_of_500() -> None:
    known = [f"msg_{number}" for number in range(1100)]
    asked: list[int] = []

    def answer(request: Request) -> Response:
        assert (request.method, request.path) == ("POST", "/v1/messages/lookup")
        listed = request.get_json()["ids"]
        asked.append(len(listed))
        return Response(json.dumps({"items": [{"id": one} for one in listed if one != "msg_7"], "missing": ["msg_7"]}))

    with answering(answer) as client:
        found = [item["id"] for item in client.lookup(known)]
    assert found == [one for one in known if one != "msg_7"]
    assert asked == [500, 500, 100]


@pytest.fixture
def served(sqlite_url: str) -> Iterator[Client]:
    """A client of the real application, whose database has a conversation."""
    database = Database(sqlite_url)
    first, _ = rows.accept(
        database,
        rows.message("447700900001", client_ref="../a b", originator="ACME"),
        rows.message("447700900002", client_ref="../a b", originator="ACME"),
    )
    stories.give_transaction(database, first, "42")
    stories.report(database, first, Status.DELIVERED, rows.seconds(3))
    stories.reply(database, "../a b", rows.seconds(9))
    rows.accept(database, rows.message("447700900003"), now=rows.seconds(-9))
    rows.keep(database, "statusid=4")
    app = create_app(make_settings(), database)
    with answering(lambda request: Response.from_app(app, request.environ)) as client:
        yield Client(client.url, ALL)
    database.close()


def test_every_list_is_read_to_its_end(served: Client) -> None:
    lists: list[tuple[Callable[..., Iterator[Json]], list[str], int]] = [
        (served.messages, [], 3),
        (served.conversations, [], 2),
        (served.timeline, ["../a b"], 6),
        (served.recipient, ["+44 7700 900001"], 2),
        (served.replies, [], 1),
        (served.receipts, [], 2),
    ]
    for call, terms, count in lists:
        at_once = [without_age(each) for each in call(*terms)]
        assert len(at_once) == count, call
        assert [without_age(each) for each in call(*terms, limit="1")] == at_once


def without_age(item: Json) -> Json:
    """An entry of a list without how long it has waited: that grows between two questions."""
    return {name: value for name, value in item.items() if name != "waitingSeconds"}


def test_single_objects_are_read(served: Client) -> None:
    [found] = served.messages(transactionID="42")
    assert [(hit["as"], len(hit["messages"])) for hit in served.search("../a b")] == [("clientRef", 2)]
    assert list(served.lookup([found["id"]])) == [found]
    assert list(served.lookup(["42", "43"], "transactionIDs")) == [found]
    assert len(list(served.lookup(["../a b"], "clientRefs"))) == 2
    assert served.message(found["id"])["status"] == "delivered"
    assert served.explain(found["id"])["because"]
    assert served.transaction("42")["summary"]["messages"] == 1
    told = served.conversation("../a b")
    assert told["timeline"] == list(served.timeline(told["id"]))
    [reply] = served.replies(clientRef="../a b")
    assert reply["content"] == "thanks"
    assert served.receipt(reply["receiptId"])["channel"] == "inbound"


def test_statistics_are_read(served: Client) -> None:
    told = served.statistics(by="day", since="2026-01-05T00:00:00Z", until="2026-01-06T00:00:00Z")
    assert told["total"]["statuses"] == {"accepted": 2, "delivered": 1}
    [waiting] = served.overdue(60)["statuses"]
    assert (waiting["status"], len(waiting["oldest"])) == ("accepted", 2)
    assert served.sending()["paused"] is False


def test_an_error_of_the_real_service_names_the_fault(served: Client) -> None:
    with pytest.raises(ApiError) as caught:
        list(served.messages(recipent="447700900001"))
    assert caught.value.errors == {"recipent": ["Is not known here; the nearest known name is recipient."]}
    with pytest.raises(ApiError, match="404"):
        list(served.recipient("447700900009"))


def test_a_fingerprint_differs_by_key_and_service() -> None:
    prints = {
        Client(url, key).fingerprint(salt)
        for url in ("http://a.example", "http://b.example")
        for key in (KEY, KEY + "2")
        for salt in ("x", "y" * 64)
    }
    assert len(prints) == 8
    assert Client("http://a.example/", KEY).fingerprint("x") in prints


CALLS: list[tuple[Callable[[Client], object], tuple[str, str, object]]] = [
    (lambda client: client.explain("m/1"), ("GET", "/v1/messages/m%2F1/explain", None)),
    (lambda client: client.cancel("m1"), ("POST", "/v1/messages/m1/cancel", {})),
    (lambda client: client.cancel("m1", "why"), ("POST", "/v1/messages/m1/cancel", {"reason": "why"})),
    (
        lambda client: client.cancel_all(dry_run=True, clientRef="r", reason="why"),
        ("POST", "/v1/messages/cancel", {"clientRef": "r", "reason": "why", "dryRun": True}),
    ),
    (
        lambda client: client.resolve("m1", "submitted", "seen"),
        ("POST", "/v1/messages/m1/resolve", {"status": "submitted", "reason": "seen"}),
    ),
    (lambda client: client.sending(), ("GET", "/v1/sending", None)),
    (lambda client: client.pause("why"), ("POST", "/v1/sending/pause", {"reason": "why"})),
    (lambda client: client.resume(), ("POST", "/v1/sending/resume", {})),
    (
        lambda client: list(client.suppressions(recipient="1", limit="7")),
        ("POST", "/v1/suppressions/query", {"recipient": "1", "limit": 7}),
    ),
    (lambda client: list(client.audit(actor="desk")), ("POST", "/v1/audit/query", {"actor": "desk"})),
    (lambda client: client.problems(state="open"), ("GET", "/v1/problems?state=open", None)),
    (lambda client: client.problem("p/1"), ("GET", "/v1/problems/p%2F1", None)),
    (lambda client: client.acknowledge_problem("p1"), ("POST", "/v1/problems/p1/acknowledge", {})),
    (lambda client: client.resolve_problem("p1", "why"), ("POST", "/v1/problems/p1/resolve", {"reason": "why"})),
    (lambda client: client.reopen_problem("p1"), ("POST", "/v1/problems/p1/reopen", {})),
    (
        lambda client: client.suppress("1", "ACME"),
        ("POST", "/v1/suppressions", {"recipient": "1", "originator": "ACME"}),
    ),
    (
        lambda client: client.allow("1", reason="asked"),
        ("POST", "/v1/suppressions/remove", {"recipient": "1", "reason": "asked"}),
    ),
    (
        lambda client: list(client.messages(recipient="1", estimate="true")),
        ("POST", "/v1/messages/query", {"recipient": "1", "estimate": True}),
    ),
    (lambda client: list(client.replies(isOptOut="false")), ("POST", "/v1/inbound/query", {"isOptOut": False})),
    (lambda client: list(client.replies(isOptIn="true")), ("POST", "/v1/inbound/query", {"isOptIn": True})),
    (lambda client: client.search("Jane"), ("POST", "/v1/search", {"q": "Jane"})),
    (
        lambda client: list(client.receipts(outcome="dead,unmatched")),
        ("POST", "/v1/receipts/query", {"outcome": ["dead", "unmatched"]}),
    ),
    (lambda client: client.receipt("r1"), ("GET", "/v1/receipts/r1", None)),
    (lambda client: client.match("r1", "m1"), ("POST", "/v1/receipts/r1/match", {"message": "m1"})),
    (lambda client: client.retry("r1"), ("POST", "/v1/receipts/r1/retry", {})),
    (lambda client: client.dismiss("r1", "why"), ("POST", "/v1/receipts/r1/dismiss", {"reason": "why"})),
    (lambda client: client.restore("r1", "why"), ("POST", "/v1/receipts/r1/restore", {"reason": "why"})),
    (
        lambda client: client.dismiss_all(outcomes=["dead"], reason="why"),
        ("POST", "/v1/receipts/dismiss", {"outcomes": ["dead"], "reason": "why"}),
    ),
    (
        lambda client: client.replay(outcomes=["dead"], dryRun=True),
        ("POST", "/v1/receipts/replay", {"outcomes": ["dead"], "dryRun": True}),
    ),
]


PERSONAL = "447700900001"

# Every call to which a number, a text or a clientRef can be given.
WITH_A_PERSON: list[Callable[[Client], object]] = [
    lambda client: client.send([{"recipients": [PERSONAL], "text": PERSONAL}]),
    lambda client: list(client.messages(recipient=PERSONAL)),
    lambda client: list(client.messages(clientRefPrefix=PERSONAL, order="clientRef")),
    lambda client: list(client.lookup([PERSONAL], "clientRefs")),
    lambda client: client.search(PERSONAL),
    lambda client: client.cancel_all(recipient=PERSONAL),
    lambda client: list(client.suppressions(recipient=PERSONAL)),
    lambda client: list(client.audit(subject=f"suppression:{PERSONAL}:")),
    lambda client: client.suppress(PERSONAL),
    lambda client: client.allow(PERSONAL),
    lambda client: list(client.conversations(clientRef=PERSONAL)),
    lambda client: list(client.timeline(PERSONAL)),
    lambda client: client.conversation(PERSONAL),
    lambda client: list(client.recipient(PERSONAL)),
    lambda client: list(client.replies(sender=PERSONAL)),
    lambda client: next(client.events(recipient=PERSONAL)),
    lambda client: next(client.events(clientRef=PERSONAL)),
]


@pytest.mark.parametrize("number", range(len(WITH_A_PERSON)))
def test_nothing_personal_stands_in_a_url(number: int) -> None:
    asked: list[tuple[str, bool]] = []

    def answer(request: Request) -> Response:
        asked.append((request.environ["REQUEST_URI"], PERSONAL in request.get_data(as_text=True)))
        if request.path == "/v1/events":
            return Response("id: 1\ndata: {}\n\n", content_type="text/event-stream")
        return Response(json.dumps({"items": [], "messages": [], "timeline": [], "nextCursor": None}))

    with answering(answer) as client:
        WITH_A_PERSON[number](client)
    assert asked
    assert all(PERSONAL not in uri and is_in_body for uri, is_in_body in asked), asked


@pytest.mark.parametrize(("call", "expected"), CALLS, ids=[expected[1] for _, expected in CALLS])
def test_each_method_calls_its_address(call: Callable[[Client], object], expected: tuple[str, str, object]) -> None:
    asked: list[tuple[str, str, object]] = []

    def answer(request: Request) -> Response:
        body = json.loads(request.get_data()) if request.get_data() else None
        asked.append((request.method, request.environ["REQUEST_URI"], body))
        return Response(json.dumps({"items": [], "nextCursor": None}))

    with answering(answer) as client:
        call(client)
    assert asked == [expected]


@pytest.mark.parametrize(
    ("content", "status", "headers"),
    [
        ("<html>", 200, {}),
        ("<html>", 502, {}),
        ("[1]", 200, {}),
        ("", 302, {"Location": "/v1/ledger?again"}),
        ({"title": 7, "errors": ["not by path"]}, 500, {}),
    ],
    ids=["no JSON", "an error that is no JSON", "no object", "a redirect", "a strange problem"],
)
def test_an_answer_that_is_not_receiptsvcs_is_an_error(content: object, status: int, headers: dict[str, str]) -> None:
    with answering(give(content, status, headers)) as client, pytest.raises(ApiError) as caught:
        client.ledger()
    assert caught.value.status == status
    assert caught.value.errors == {}


@pytest.mark.parametrize("content", [{}, {"items": None}, {"items": ["x"]}, {"messages": []}])
def test_a_list_without_items_is_an_error(content: object) -> None:
    with answering(give(content)) as client, pytest.raises(ApiError, match="an answer without items"):
        list(client.messages())


def test_a_refused_connection_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unreachable, match="can't be reached: nothing listens there"):
        Client(f"http://127.0.0.1:{port}", KEY).ledger()


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("https://127.0.0.1:{port}", "TLS failed: is it really https"),
        ("http://nowhere.invalid:{port}", "there is no such host"),
    ],
)
def test_a_service_that_cannot_be_reached_is_named_with_the_reason(
    address: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with answering(give({})) as client:
        port = urlsplit(client.url).port
        with pytest.raises(Unreachable, match=why):
            Client(address.format(port=port), KEY).ledger()


def test_a_timeout_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", KEY, timeout_seconds=0.05)
        with pytest.raises(Unreachable, match="in time"):
            client.ledger()


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"RECEIPTSVC_URL": "https://a.example/x/", "PUBLIC_URL": "https://b.example"}, "https://a.example/x"),
        ({"PUBLIC_URL": "https://b.example", "PORT": "81"}, "https://b.example"),
        ({"PORT": "81"}, "http://127.0.0.1:81"),
        ({"RECEIPTSVC_URL": " ", "PUBLIC_URL": ""}, "http://127.0.0.1:8000"),
    ],
)
def test_the_url_is_the_first_setting_that_is_set(environ: dict[str, str], url: str) -> None:
    client = Client.from_env({**environ, "RECEIPTSVC_API_KEY": KEY})
    assert client.url == url


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"RECEIPTSVC_URL": "ftp://a.example"}, "RECEIPTSVC_URL"),
        ({"RECEIPTSVC_URL": "https://me:pw@a.example"}, "RECEIPTSVC_URL"),
        ({"RECEIPTSVC_URL": "https://a.example/?x"}, "RECEIPTSVC_URL"),
        ({"RECEIPTSVC_URL": "https://a.example:port"}, "RECEIPTSVC_URL"),
        ({"RECEIPTSVC_URL": "https:///nowhere"}, "RECEIPTSVC_URL"),
        ({"PUBLIC_URL": "b.example"}, "PUBLIC_URL"),
        ({"PORT": "http"}, "PORT"),
        ({"PORT": "70000"}, "PORT"),
        ({"RECEIPTSVC_API_KEY": "schlüssel\r\nX: y"}, "RECEIPTSVC_API_KEY"),
        ({"RECEIPTSVC_API_KEY": "key \udcff"}, "RECEIPTSVC_API_KEY"),
        ({"RECEIPTSVC_URL": "https://a.example/\udcff"}, "RECEIPTSVC_URL"),
    ],
)
def test_a_bad_setting_is_named_and_not_quoted(environ: dict[str, str], name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Client.from_env({"RECEIPTSVC_API_KEY": KEY, **environ})
    assert len(caught.value.faults) == 1
    assert caught.value.faults[0].startswith(f"{name}: must be ")
    assert environ[name] not in str(caught.value)


def test_every_fault_of_the_environment_is_reported_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "key_path", lambda: tmp_path / "api_key")
    with pytest.raises(SettingsError) as caught:
        Client.from_env({"RECEIPTSVC_URL": "x"})
    assert [fault.partition(":")[0] for fault in caught.value.faults] == ["RECEIPTSVC_URL", "RECEIPTSVC_API_KEY"]


def test_the_key_in_the_data_folder_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "api_key").write_text(KEY + "\n")
    monkeypatch.setattr(environment, "key_path", lambda: tmp_path / "api_key")
    with answering(lambda request: Response(json.dumps({"key": request.headers["Authorization"]}))) as server:
        client = Client.from_env({"RECEIPTSVC_URL": server.url})
        assert client.ledger() == {"key": f"Bearer {KEY}"}
