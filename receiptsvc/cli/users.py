"""`users`: the people who may sign in at the ops page with a name and a password."""

import json
import sys
from datetime import UTC, datetime

import click

from receiptsvc import passwords
from receiptsvc.cli.terminal import databases, display
from receiptsvc.cli.terminal.options import Decorator, json_option, reason_option, with_all, write_time
from receiptsvc.config import Settings
from receiptsvc.domain.errors import Refused
from receiptsvc.store.access import users as store
from receiptsvc.store.core.audits import Actor

_PASSWORD: list[Decorator] = [
    click.option("--generate", "is_generated", is_flag=True, help="Make a password, and print it once."),
    click.option("--password-stdin", "is_piped", is_flag=True, help="Read the password from standard input."),
]
_with_password = with_all(_PASSWORD)
_ACTOR = "command line"


@click.group(short_help="Who may sign in at the ops page?")
def users() -> None:
    """Add, list and disable the people who sign in at the ops page by name and password.

    A password is asked for without being shown; it is never an argument, since those can be seen in the list of
    processes. Whoever has an API key with the scope ops can sign in with that and needs no user.

    \b
      python -m receiptsvc users add anna
      python -m receiptsvc users add ben --generate
      python -m receiptsvc users disable ben --reason "has left"
    """


@users.command()
@click.argument("name")
@_with_password
@reason_option
def add(*, name: str, is_generated: bool, is_piped: bool, reason: str | None) -> None:
    """Add a user. Upper and lower case of NAME are the same."""
    settings, password = Settings.from_env(), _read_password(is_generated=is_generated, is_piped=is_piped)
    with databases.opened(settings, is_written=True) as database, database.transaction() as session:
        store.add(session, name, passwords.hash_of(password), Actor(actor=_ACTOR, reason=reason), _now())
    click.echo(f"{store.fold(name)} can sign in at {settings.public_url}/ops")
    _show_generated(password, is_generated=is_generated)


@users.command("list")
@json_option
def list_all(*, as_json: bool) -> None:
    """List the users, and who of them is disabled."""
    with databases.opened(Settings.from_env()) as database, database.reading() as session:
        found = store.list_all(session)
    if as_json:
        items = [
            {
                "name": user.name,
                "madeAt": write_time(user.made_at),
                "disabledAt": write_time(user.disabled_at) if user.disabled_at else None,
            }
            for user in found
        ]
        click.echo(json.dumps({"items": items}, indent=2))
        return
    click.echo(f"{display.count(len(found), 'user')}.")
    for user in found:
        disabled = f"disabled since {user.disabled_at:%Y-%m-%d %H:%M:%SZ}" if user.disabled_at else "can sign in"
        click.echo(f"{user.name:<20} {disabled}")


@users.command()
@click.argument("name")
@reason_option
def disable(*, name: str, reason: str | None) -> None:
    """Let a user sign in no more, and end their sessions. `users password` lets them in again."""
    with databases.opened(Settings.from_env(), is_written=True) as database, database.transaction() as session:
        ended = store.disable(session, name, Actor(actor=_ACTOR, reason=reason), _now())
    click.echo(f"{store.fold(name)} is disabled; {display.count(ended, 'session')} ended")


@users.command()
@click.argument("name")
@_with_password
@reason_option
def password(*, name: str, is_generated: bool, is_piped: bool, reason: str | None) -> None:
    """Give a user a new password, and end their sessions. One who was disabled can sign in again."""
    settings, new = Settings.from_env(), _read_password(is_generated=is_generated, is_piped=is_piped)
    with databases.opened(settings, is_written=True) as database, database.transaction() as session:
        ended = store.set_password(session, name, passwords.hash_of(new), Actor(actor=_ACTOR, reason=reason), _now())
    click.echo(f"{store.fold(name)} has a new password; {display.count(ended, 'session')} ended")
    _show_generated(new, is_generated=is_generated)


def _read_password(*, is_generated: bool, is_piped: bool) -> str:
    """A new password, from where the options say. Raises ClickException for one that is too weak."""
    if is_generated and is_piped:
        raise click.UsageError("--generate or --password-stdin, not both")
    if is_generated:
        return passwords.generate()
    if is_piped:
        try:
            text = sys.stdin.buffer.readline().decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise Refused("a password is UTF-8") from None
    elif sys.stdin.isatty():
        text = str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    else:
        raise click.UsageError("there is no terminal to ask for the password: --password-stdin, or --generate")
    fault = passwords.find_fault(text)
    if fault is not None:
        raise Refused(fault)
    return text


def _show_generated(made: str, *, is_generated: bool) -> None:
    if is_generated:
        click.echo("The password is shown only now:", err=True)
        click.echo(made)


def _now() -> datetime:
    return datetime.now(UTC)
