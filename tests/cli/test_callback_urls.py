"""`urls` and `callback-keys` as people and programs call them."""

import json

from receiptsvc import tokens
from receiptsvc.config import Settings
from receiptsvc.store.access import key_uses
from receiptsvc.store.access.key_uses import Kind
from receiptsvc.store.inbox import rejected
from receiptsvc.store.inbox.rejected import RejectedCallback
from tests.cli.conftest import Run, Service
from tests.support.rows import seconds


def test_urls_are_those_that_the_callbacks_verify(environ: dict[str, str], run: Run) -> None:
    static = tokens.static_urls(Settings.from_env(environ))
    result = run("urls")
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["receipts", static.receipts],
        ["replies", static.inbound],
    ]
    assert "secret" in result.stderr
    assert json.loads(run("urls", "--json").stdout) == dict(map(str.split, result.stdout.splitlines()))


def test_callback_keys_tells_when_each_was_last_seen_and_what_was_refused(service: Service, run: Run) -> None:
    assert run("callback-keys").stdout == "k1        signs and verifies\n"
    refused = [
        RejectedCallback(received_at=seconds(at), method="GET", address="/", kid=kid, query=b"")
        for at, kid in enumerate(("k1", "k0", None))
    ]
    with service.database.transaction() as session:
        key_uses.write(session, [(Kind.CALLBACK, "k1"), (Kind.CALLBACK, "k0")], seconds(60))
        rejected.add(session, refused)
    lines = run("callback-keys").stdout.splitlines()
    assert lines[0] == "k1        signs and verifies, last seen 2026-01-05 12:01Z"
    assert sorted(lines[1:]) == [
        "-         refused 1 callback, last 2026-01-05 12:00:02Z: not of our form",
        "k0        refused 1 callback, last 2026-01-05 12:00:01Z: not listed",
        "k1        refused 1 callback, last 2026-01-05 12:00:00Z: its secret is another, it was listed later, or the request was not HTTP",
    ]
    told = json.loads(run("callback-keys", "--json").stdout)
    assert (told["listed"], told["lastSeenAt"]) == (["k1"], {"k1": "2026-01-05T12:01:00+00:00"})
    assert len(told["refused"]) == 3
