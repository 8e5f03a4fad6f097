"""The commands `sending`, `pause`, `resume`, `cancel` and `resolve`: operate on messages that are on their way.

They are clients of the HTTP API. The service decides what each action does and when it is refused.
"""

from collections.abc import Mapping

import click

from receiptsvc.cli.terminal import display
from receiptsvc.cli.terminal.answers import api_errors_shown, print_json
from receiptsvc.cli.terminal.options import (
    Word,
    from_option,
    json_option,
    needed_reason_option,
    reason_option,
    since_option,
    to_option,
    until_option,
    with_all,
    without_none,
)
from receiptsvc.client import Client, Json, Unreachable
from receiptsvc.domain.statuses import RESOLUTIONS

# Which messages to cancel. Each parameter has the name of the API's field.
_FILTER_OPTIONS = (
    click.option("--client-ref", "clientRef", help="Those of this clientRef."),
    to_option("recipient", "Those to this number, in any usual writing."),
    from_option("Those of this sender, exactly as it was given."),
    click.option("--created-by", "createdBy", metavar="NAME", help="Those that the API key of this name sent."),
    since_option("Those accepted"),
    until_option("Those accepted"),
)


@click.command(short_help="Do messages go out? What holds them?")
@json_option
def sending(*, as_json: bool) -> None:
    """Show whether messages go out, and what holds them.

    A person's pause, a gateway that refuses our credentials, and how many messages wait to be resolved.
    """
    with api_errors_shown():
        _print_state(Client.from_env().sending(), as_json=as_json)


@click.command(short_help="Stop all sending.")
@needed_reason_option
@json_option
def pause(*, reason: str, as_json: bool) -> None:
    """Give nothing to the gateway any more, until `resume`.

    What is accepted meanwhile waits. A call that is being made is not ended.

    \b
      python -m receiptsvc pause --reason "wrong texts"
    """
    with api_errors_shown():
        _print_state(Client.from_env().pause(reason), as_json=as_json)


@click.command(short_help="Let messages go out again.")
@reason_option
@json_option
def resume(*, reason: str | None, as_json: bool) -> None:
    """Let messages go out again.

    \b
      python -m receiptsvc resume --reason "the wrong ones are cancelled"
    """
    with api_errors_shown():
        _print_state(Client.from_env().resume(reason), as_json=as_json)


@click.command(short_help="Take back what was not given to the gateway.")
@click.argument("message_id", required=False)
@with_all(_FILTER_OPTIONS)
@click.option("--dry-run", "is_dry_run", is_flag=True, help="With a filter: only count them.")
@click.option("--yes", "is_sure", is_flag=True, help="With a filter: do not ask first.")
@reason_option
@json_option
def cancel(
    *,
    message_id: str | None,
    is_dry_run: bool,
    is_sure: bool,
    reason: str | None,
    as_json: bool,
    **filter_options: object,
) -> None:
    """Cancel what was not given to the gateway: one message by its id, or all that match every filter.

    What is cancelled never goes out. Many are counted first, and you are asked. Pause sending before, so that none goes
    out meanwhile. Exit code 1 if it is too late for a message.

    \b
      python -m receiptsvc cancel msg_01k8z3r5t6e8vbyq0h4n2m7c9d
      python -m receiptsvc cancel --client-ref campaign-7 --dry-run
      python -m receiptsvc cancel --client-ref campaign-7 --reason "wrong texts"
    """
    filters = without_none(filter_options)
    if bool(filters) == (message_id is not None):
        raise click.UsageError("Say which: one MESSAGE_ID, or at least one filter such as --client-ref.")
    if is_dry_run and not filters:
        raise click.UsageError("--dry-run goes with a filter.")
    client = Client.from_env()
    with api_errors_shown(is_conflict_wrong_use=False):
        if message_id is not None:
            _print_message(client.cancel(message_id, reason), as_json=as_json)
            return
        if is_dry_run or not is_sure:
            count = client.cancel_all(dry_run=True, **filters)
            if is_dry_run:
                _print_cancelled(count, as_json=as_json)
                return
            if count["cancelled"]:
                click.confirm(f"Cancel {_format_count(count)}? They never go out then.", abort=True, err=True)
        reason_field = {"reason": reason} if reason is not None else {}
        _print_cancelled(_cancel_all(client, {**filters, **reason_field}, is_shown=not as_json), as_json=as_json)


@click.command(short_help="Say what became of a message that is send_unknown.")
@click.argument("message_id")
@click.argument("status", type=Word([status.value for status in RESOLUTIONS]))
@needed_reason_option
@json_option
def resolve(*, message_id: str, status: str, reason: str, as_json: bool) -> None:
    """Record what became of a message that is send_unknown.

    It is not offered to the gateway again. A receipt that comes later still wins. Exit code 1 if the message is not
    send_unknown.

    \b
      python -m receiptsvc resolve msg_01k8z3r5t6e8vbyq0h4n2m7c9d submitted --reason "it is in the portal"
    """
    with api_errors_shown(is_conflict_wrong_use=False):
        _print_message(Client.from_env().resolve(message_id, status, reason), as_json=as_json)


def _cancel_all(client: Client, filters: Mapping[str, str], *, is_shown: bool) -> Json:
    """Cancel by filter, call after call, until no message matches. Returns the last answer with the total."""
    total = 0
    with display.progress("messages cancelled", is_shown=is_shown) as advance:
        while True:
            try:
                result = client.cancel_all(dry_run=False, **filters)
            except Unreachable as error:
                raise click.ClickException(
                    f"{error}; {display.count(total, 'message')} cancelled before that. Run it again for the others"
                ) from error
            total += int(result["cancelled"])
            advance(int(result["cancelled"]))
            if result["isComplete"]:
                return {**result, "cancelled": total}


def _print_state(state: Json, *, as_json: bool) -> None:
    if as_json:
        print_json(state)
    else:
        display.print_sending(display.console(), state)


def _print_message(message: Json, *, as_json: bool) -> None:
    if as_json:
        print_json(message)
    else:
        display.print_message(display.console(), message)


def _print_cancelled(result: Json, *, as_json: bool) -> None:
    if as_json:
        print_json(result)
    else:
        done = "was" if int(result["cancelled"]) == 1 else "were"
        click.echo(f"{_format_count(result)} {'would be' if result['dryRun'] else done} cancelled")


def _format_count(result: Json) -> str:
    """How many messages a result is about; "at least" so many if the service stopped before the end."""
    prefix = "" if result["isComplete"] else "at least "
    return prefix + display.count(int(result["cancelled"]), "message")
