"""The commands `sending`, `pause`, `resume`, `cancel` and `resolve`: operate on messages that are on their way.

They are clients of the HTTP API. The service decides what each action does and when it is refused.
"""

from collections.abc import Mapping
from functools import partial

import click

from receiptsvc.cli import lookup
from receiptsvc.cli.terminal import display, national, tables
from receiptsvc.cli.terminal.answers import api_errors_shown, newest, print_json
from receiptsvc.cli.terminal.options import (
    Word,
    client_ref_prefix_option,
    from_option,
    json_option,
    limit_option,
    needed_reason_option,
    reason_option,
    since_option,
    to_option,
    until_option,
    with_all,
    without_none,
)
from receiptsvc.cli.terminal.wrong_use import WrongUse
from receiptsvc.client import Client, Json, Unreachable
from receiptsvc.domain.statuses import RESOLUTIONS, Status

_MAX_NAMED = 5  # messages in an error

# Which messages to cancel. Each parameter has the name of the API's field.
_FILTER_OPTIONS = (
    click.option("--client-ref", "clientRef", help="Those of this clientRef."),
    client_ref_prefix_option,
    to_option("recipient", "Those to this number, in any usual writing."),
    from_option("Those of this sender, exactly as it was given."),
    click.option("--created-by", "createdBy", metavar="NAME", help="Those that the API key of this name sent."),
    since_option("Those accepted"),
    until_option("Those accepted"),
    click.option("--scheduled", is_flag=True, default=None, help="Only those that wait here until their deliverAfter."),
)


@click.command(short_help="Do messages go out? What holds them?")
@json_option
@click.pass_context
def sending(ctx: click.Context, *, as_json: bool) -> None:
    """Show whether messages go out, and what holds them.

    No worker, a gateway that can't be reached or refuses our credentials, a person's pause; how many messages wait, and
    how many are to be resolved. Exit code 1 if anything is not as it should be.
    """
    with api_errors_shown():
        state = Client.from_env().sending()
    _print_state(state, as_json=as_json)
    ctx.exit(1 if display.is_amiss(state) else 0)


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
        state = Client.from_env().pause(reason)
    if state.get("reason") != reason:
        click.echo("It was paused already; who did it and the reason stay.", err=True)
    _print_state(state, as_json=as_json)


@click.command(short_help="Let messages go out again.")
@reason_option
@json_option
def resume(*, reason: str | None, as_json: bool) -> None:
    """Let messages go out again.

    It says when sending was resumed last, and by whom: earlier, if nothing was paused.

    \b
      python -m receiptsvc resume --reason "the wrong ones are cancelled"
    """
    with api_errors_shown():
        state = Client.from_env().resume(reason)
    _print_state(state, as_json=as_json)


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
      python -m receiptsvc cancel --client-ref-prefix winter-2026/ --reason "wrong texts"
    """
    filters = without_none(filter_options)
    if bool(filters) == (message_id is not None):
        raise click.UsageError("Say which: one MESSAGE_ID, or at least one filter such as --client-ref.")
    if is_dry_run and not filters:
        raise click.UsageError("--dry-run goes with a filter.")
    if message_id is not None and not message_id.startswith("msg_"):
        raise WrongUse(
            f"{display.plain(message_id)} is no message's id, such as msg_01k8z3r5t6e8vbyq0h4n2m7c9d. "
            "By a number or a clientRef cancel with --to, --client-ref or --client-ref-prefix."
        )
    client = Client.from_env()
    hint = partial(national.describe, client, filters.get("recipient"))
    with api_errors_shown(is_conflict_wrong_use=False, hint=hint):
        if message_id is not None:
            _print_message(client.cancel(message_id, reason), as_json=as_json)
            return
        if is_dry_run or not is_sure:
            count = client.cancel_all(dry_run=True, **filters)
            if is_dry_run:
                _print_cancelled(count, as_json=as_json)
                _say_what_was_meant(client, filters, count)
                return
            if count["cancelled"]:
                click.confirm(f"Cancel {_format_count(count)}? They never go out then.", abort=True, err=True)
        reason_field = {"reason": reason} if reason is not None else {}
        result = _cancel_all(client, {**filters, **reason_field}, is_shown=not as_json)
        _print_cancelled(result, as_json=as_json)
        _say_what_was_meant(client, filters, result)


@click.command(short_help="Say what became of a message that is send_unknown.")
@click.argument("term", required=False)
@click.argument("status", type=Word([status.value for status in RESOLUTIONS]), required=False)
@reason_option
@limit_option
@json_option
def resolve(*, term: str | None, status: str | None, reason: str | None, limit: int, as_json: bool) -> None:
    """Record what became of a message that is send_unknown. Without TERM: list those that are.

    TERM is a message's id, or what else finds a single message that is send_unknown, as `status` takes it. It is not
    offered to the gateway again. A receipt that comes later still wins. Exit code 1 if the message is not send_unknown.

    \b
      python -m receiptsvc resolve
      python -m receiptsvc resolve msg_01k8z3r5t6e8vbyq0h4n2m7c9d submitted --reason "it is in the portal"
    """
    client = Client.from_env()
    if term is None:
        _print_unresolved(client, limit, as_json=as_json)
        return
    if status is None or reason is None:
        raise click.UsageError("Say what became of it, and how that is known: STATUS and --reason.")
    with api_errors_shown(is_conflict_wrong_use=False):
        _print_message(client.resolve(_find_unresolved(client, term), status, reason), as_json=as_json)


def _print_unresolved(client: Client, limit: int, *, as_json: bool) -> None:
    with api_errors_shown():
        items, is_complete = newest(client.messages(status=Status.SEND_UNKNOWN.value), limit)
    if as_json:
        print_json({"items": items, "isComplete": is_complete})
        return
    out = display.console()
    tables.say(out, f"{display.describe_length(len(items), 'message', is_complete=is_complete)} to resolve.")
    display.print_messages(out, items)


def _find_unresolved(client: Client, term: str) -> str:
    """The id of the one message that is send_unknown among those that a term finds; of a single other message, its id.

    Raises ClickException if it is none or several.
    """
    if term.startswith("msg_"):
        return term
    found = lookup.find_messages(client, term.strip())
    unresolved = [item for item in found if item.get("status") == Status.SEND_UNKNOWN.value]
    fitting = unresolved or found
    if national.is_national(term) and found:
        raise WrongUse(national.describe(client, term))
    if len(fitting) == 1:
        return str(fitting[0].get("id"))
    if not fitting:
        raise click.ClickException(f"{display.plain(term)} finds no message.")
    if not unresolved:
        raise click.ClickException(
            f"{display.plain(term)} finds {display.count(len(found), 'message')}, none send_unknown."
        )
    listed = ", ".join(str(item.get("id")) for item in unresolved[:_MAX_NAMED])
    more = " …" if len(unresolved) > _MAX_NAMED else ""
    raise WrongUse(
        f"{display.plain(term)} finds {len(unresolved)} messages that are send_unknown; name one: {listed}{more}"
    )


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


def _say_what_was_meant(client: Client, filters: Mapping[str, str], result: Json) -> None:
    """Where nothing fits: whether a clientRef is the beginning of others, or a sender is written in another case."""
    if result["cancelled"]:
        return

    def waits(**instead: str) -> Json:
        kept = {
            name: value for name, value in filters.items() if name != "clientRef" or not instead.get("clientRefPrefix")
        }
        return client.cancel_all(dry_run=True, **{**kept, **instead})

    client_ref, originator = filters.get("clientRef"), filters.get("originator")
    if client_ref is not None:
        longer = waits(clientRefPrefix=client_ref)
        if longer["cancelled"]:
            name = display.plain(client_ref)
            click.echo(
                f"Nothing that waits has the clientRef {name}; {_format_count(longer)} that wait begin with it: "
                f"--client-ref-prefix {name}",
                err=True,
            )
    if originator is not None:
        for other in {originator.upper(), originator.lower(), originator.capitalize()} - {originator}:
            if waits(originator=other)["cancelled"]:
                click.echo(f"--from is exact; did you mean {display.plain(other)}?", err=True)


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
