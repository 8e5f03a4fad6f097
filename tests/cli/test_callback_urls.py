"""`urls` as people and programs call it."""

import json

from receiptsvc import tokens
from receiptsvc.config import Settings
from tests.cli.conftest import Run


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
