"""What each WEB_ROLE serves, over HTTP; and that a callback is kept by whatever process it reaches."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from receiptsvc import ids, tokens
from receiptsvc.config import Settings
from receiptsvc.demo.processes import answers
from receiptsvc.locations import PROJECT
from receiptsvc.store.core.db import plain_url
from receiptsvc.web_role import WebRole
from tests.support.callers import bearer
from tests.support.forked import Stack
from tests.support.processes import until
from tests.support.sampling import sampled

API_KEY = "all-0123456789abcdef="
SHARED = {"CALLBACK_KEYS": "k1:0123456789abcdef", "WEB_CONCURRENCY": "1"}
EVERYWHERE = {"/healthz", "/readyz", "/metrics"}
OF_THE_API = {
    *("/", "/v1/messages", "/v1/ledger", "/openapi.json", "/docs", "/docs/guides/operations"),
    *("/ops", "/ops/sign-in", "/ops/static/ops.css", "/nothing"),
}


@contextmanager
def serving(folder: Path, url: str, *roles: WebRole, **settings: str) -> Iterator[dict[WebRole, Stack]]:
    """A web process of each of these roles, all on one database and with the same keys."""
    with ExitStack() as running:
        stacks = {}
        for role in roles:
            environ = {**SHARED, **settings, "WEB_ROLE": role.value}
            stacks[role] = running.enter_context(Stack(folder / role, url, api_key=API_KEY, settings=environ))
            stacks[role].start("web")
        for stack in stacks.values():
            stack.wait_until("the web process", partial(answers, f"{stack.url}/readyz"))
        yield stacks


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Mapping[WebRole, Stack]]:
    folder = tmp_path_factory.mktemp("roles")
    shutil.copy(sqlite_template, folder / "test.db")
    with serving(folder, f"sqlite:///{folder / 'test.db'}", *WebRole) as made:
        yield made


def get(stack: Stack, path: str, method: str = "GET", **options: Any) -> requests.Response:
    url = f"{stack.url}{path}"
    return requests.request(method, url, headers=bearer(API_KEY), timeout=20, allow_redirects=False, **options)


def callback_urls(stack: Stack) -> list[str]:
    settings = Settings.from_env(stack.environ)
    return [tokens.receipt_url(settings, ids.new()), *astuple(tokens.static_urls(settings))]


@pytest.mark.parametrize("role", WebRole)
def test_health_and_metrics_are_in_every_role(stacks: Mapping[WebRole, Stack], role: WebRole) -> None:
    for path in EVERYWHERE:
        assert get(stacks[role], path).status_code == 200, path
        assert get(stacks[role], path, "POST", json={}).status_code == 405, path


@pytest.mark.parametrize("role", WebRole)
def test_callbacks_are_kept_in_every_role(stacks: Mapping[WebRole, Stack], role: WebRole) -> None:
    ledger = stacks[WebRole.ALL].client().ledger
    before = ledger()["callbacks"]
    for url in callback_urls(stacks[role]):
        answer = requests.get(f"{url}?statusid=1", timeout=20)
        assert (answer.status_code, answer.text) == (200, "OK\n")
    assert requests.get(f"{stacks[role].url}/callbacks/receipts/x?statusid=1", timeout=20).status_code == 403
    assert ledger()["callbacks"] == before + 3


def test_where_the_api_is_served_a_role_changes_no_answer(stacks: Mapping[WebRole, Stack]) -> None:
    for path in OF_THE_API:
        statuses = {get(stacks[role], path).status_code for role in (WebRole.ALL, WebRole.API)}
        assert len(statuses) == 1, path
        assert (statuses == {404}) == (path in {"/", "/nothing"}), path
    assert "WEB_ROLE" not in get(stacks[WebRole.API], "/nothing").text


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_for_callbacks_alone_all_else_is_404_and_the_problem_names_the_role(
    stacks: Mapping[WebRole, Stack], method: str
) -> None:
    body = {} if method == "GET" else {"data": b'{"messages": []}' * 10_000}
    for path in OF_THE_API:
        answer = get(stacks[WebRole.CALLBACKS], path, method, **body)
        assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json"), path
        problem = answer.json()
        assert (problem["title"], problem["status"]) == ("Not Found", 404)
        assert problem["detail"].startswith("This process has WEB_ROLE=callbacks: it answers callbacks, /healthz,")
    assert "WEB_ROLE" not in requests.get(f"{stacks[WebRole.CALLBACKS].url}/callbacks/receipts/x?a=1", timeout=20).text


def test_each_says_at_its_start_what_it_serves(stacks: Mapping[WebRole, Stack]) -> None:
    for role, stack in stacks.items():
        lines = map(json.loads, (stack.folder / "web.log").read_text().splitlines())
        assert [line["role"] for line in lines if line["action"] == "web.listening"] == [role]


def test_a_misrouted_callback_is_kept_and_every_process_tells_of_it(postgresql_url: str, tmp_path: Path) -> None:
    with serving(tmp_path, postgresql_url, WebRole.API, WebRole.CALLBACKS) as stacks:
        api, callbacks = stacks[WebRole.API], stacks[WebRole.CALLBACKS]

        def said(stack: Stack, secret: str | None = API_KEY) -> list[str]:
            headers = bearer(secret) if secret is not None else {}
            found = requests.get(f"{stack.url}/readyz", headers=headers, timeout=20).json()["degraded"]
            return [text for text in found if text.startswith("misrouted")]

        for url in callback_urls(callbacks):
            assert requests.get(f"{url}?statusid=1", timeout=20).status_code == 200
        assert requests.get(f"{api.url}/callbacks/receipts/x?statusid=1", timeout=20).status_code == 403
        assert requests.get(callback_urls(api)[0], timeout=20).status_code == 200, "a probe: nothing was kept"
        for url in callback_urls(api)[:2]:
            assert requests.get(f"{url}?statusid=1", timeout=20).status_code == 200
        assert api.client().ledger()["callbacks"] == 5
        for stack in (api, callbacks):
            until("it is told", lambda stack=stack: said(stack) != [])  # type: ignore[misc]
            [text] = said(stack)
            assert text.startswith("misrouted: 2 callbacks since ")
            assert "kept by processes with WEB_ROLE=api" in text
            assert [len(line) for line in said(stack, None)] == [
                len("misrouted: 2 callbacks since 2026-01-01T00:00:00Z")
            ]
            metrics = requests.get(f"{stack.url}/metrics", timeout=20).text
            assert "\nreceiptsvc_callbacks_misrouted 2.0\n" in metrics
        degraded = get(callbacks, "/readyz").json()["degraded"]
        assert not [text for text in degraded if "may open" in text]


def test_a_process_for_callbacks_alone_opens_no_more_connections_than_it_is_counted_with(
    postgresql_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(plain_url(postgresql_url), autocommit=True) as watcher:

        def count() -> int:
            row = watcher.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND application_name LIKE 'receiptsvc%'"
            ).fetchone()
            return row[0] if row else 0

        before = count()
        with (
            serving(tmp_path, postgresql_url, WebRole.CALLBACKS) as stacks,
            sampled(count, 0.02) as seen,
            ThreadPoolExecutor(8) as clients,
        ):
            stack = stacks[WebRole.CALLBACKS]
            urls = [f"{callback_urls(stack)[0]}?statusid=1", f"{stack.url}/readyz", f"{stack.url}/metrics"] * 16
            assert {one.status_code for one in clients.map(lambda url: requests.get(url, timeout=60), urls)} == {200}
            bounds = Settings.from_env(stack.environ).connection_bounds
    assert max(seen) - before == bounds.of_callbacks_process


NOT_FOR_CALLBACKS = {
    *("receiptsvc.web.app", "receiptsvc.web.api.messages", "receiptsvc.web.docs.pages", "receiptsvc.web.ops.pages"),
    *("receiptsvc.server.event_streams", "receiptsvc.server.page_feed", "receiptsvc.web.schemas.messages"),
    *("markdown_it", "pygments"),
}


@pytest.mark.parametrize("role", [WebRole.API, WebRole.CALLBACKS])
def test_a_process_for_callbacks_alone_imports_no_api(sqlite_url: str, tmp_path: Path, role: WebRole) -> None:
    environ = {**Stack(tmp_path / "stack", sqlite_url, settings={"WEB_ROLE": role.value}).environ}
    code = "import sys, wsgi; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=PROJECT, env=environ, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    imported = set(done.stdout.split())
    expected = set() if role is WebRole.CALLBACKS else NOT_FOR_CALLBACKS
    assert imported & NOT_FOR_CALLBACKS == expected
    assert "receiptsvc.intake.callbacks" in imported
