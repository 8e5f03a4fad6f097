"""`new-secret`: what it prints is what the settings take."""

import json

import pytest

from receiptsvc.config import Settings
from tests.cli.conftest import Run

DATABASE = {"DATABASE_URL": "postgresql://db/name"}


def test_its_lines_are_settings_that_let_the_service_start(run: Run) -> None:
    first, second = run("new-secret"), run("new-secret")
    assert (first.exit_code, second.exit_code) == (0, 0)
    lines = [dict(line.split("=", 1) for line in result.stdout.splitlines()) for result in (first, second)]
    settings = Settings.from_env(DATABASE | lines[0])
    assert [key.scopes for key in settings.api_keys] == [{"send", "read", "ops"}]
    both = {"CALLBACK_KEYS": f"{lines[1]['CALLBACK_KEYS']},{lines[0]['CALLBACK_KEYS']}"}
    rotated = Settings.from_env(DATABASE | lines[0] | both).callback_keys
    assert rotated[1:] == settings.callback_keys, "the new one goes in front of the old one"
    secrets = [*(key.secret for key in rotated), *(key.secret for key in settings.api_keys)]
    assert all(len(secret) >= 43 for secret in secrets), "256 bits"
    assert "shown only now" in first.stderr


def test_as_json_and_for_one_client(run: Run) -> None:
    result = run("new-secret", "--json", "--name", "shop", "--scopes", "send+read")
    (key,) = Settings.from_env(DATABASE | json.loads(result.stdout)).api_keys
    assert (key.name, key.scopes) == ("shop", frozenset({"send", "read"}))


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--name", "my shop"), "--name: must be 1 to 64 letters"),
        (("--scopes", "all"), "--scopes: must be some of ops, read, send, with + between"),
        (("--scopes", ""), "--scopes: must be"),
        (("--name", "a:b"), "--name: must be"),
        (("--name", "a,b"), "--name: must be"),
    ],
)
def test_what_the_settings_would_refuse_is_wrong_use(run: Run, arguments: tuple[str, str], fault: str) -> None:
    result = run("new-secret", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert fault in result.stderr
