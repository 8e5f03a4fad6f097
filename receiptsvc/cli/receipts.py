"""`receipts` and `ledger`: the rows that were kept, and what an operator does with those that fit nothing.

They are clients of the HTTP API. Many receipts are worked on again by `replay`.
"""

import click

from receiptsvc.cli.terminal import display, national, parking, tables
from receiptsvc.cli.terminal.answers import api_errors_shown, newest, print_json
from receiptsvc.cli.terminal.options import (
    Word,
    client_ref_option,
    json_option,
    limit_option,
    needed_reason_option,
    reason_option,
    since_option,
    to_ends_option,
    to_option,
    transaction_option,
    until_option,
    without_none,
    words_option,
)
from receiptsvc.client import ApiError, Client, Json
from receiptsvc.domain.inbox import Channel, ReceiptOutcome

_NAMED = (
    *("recipient", "recipientEnds", "transactionID", "clientRef"),
    *("providerStatusId", "providerDescription", "keyId"),
)

_receipt_argument = click.argument("receipt_id", metavar="RECEIPT")


@click.group(short_help="Which receipts fit no message? What to do about them?")
def receipts() -> None:
    """What became of the receipts that came? List and show them; match, retry, dismiss or restore one.

    \b
      python -m receiptsvc receipts list --outcome unmatched
      python -m receiptsvc receipts show rcp_01k8z4a0b1c2d3e4f5g6h7j8k8
      python -m receiptsvc receipts match rcp_01k8z4a0b1c2d3e4f5g6h7j8k8 msg_01k8z3r5t6e8vbyq0h4n2m7c9d
    """


@receipts.command("list")
@words_option("--outcome", "outcome", [outcome.value for outcome in ReceiptOutcome], "What became of them.")
@to_option("recipient", "That name this recipient, in any usual writing.")
@to_ends_option
@transaction_option
@client_ref_option
@click.option("--code", "providerStatusId", help="With this code of the gateway.")
@click.option("--description", "providerDescription", help="With this description of the gateway.")
@click.option("--key-id", "keyId", metavar="KID", help="That came with a callback key of this name.")
@click.option("--channel", type=Word([channel.value for channel in Channel]), help="The address that they came to.")
@click.option("--message", metavar="MESSAGE", help="Recorded for the message with this id.")
@since_option("Received")
@until_option("Received")
@limit_option
@json_option
def list_all(*, limit: int, as_json: bool, **filter_options: object) -> None:
    """List receipts that fit every option, the newest first.

    What a receipt names (--to, --to-ends, --transaction-id, --client-ref, --code, --description, --key-id) is known of
    those that were not simply recorded: unmatched, quarantined, dead, unmapped or dismissed.

    \b
      python -m receiptsvc receipts list --outcome unmatched --outcome quarantined --since yesterday
      python -m receiptsvc receipts list --to "+44 7700 900000"
    """
    client = Client.from_env()
    with api_errors_shown():
        items, is_complete = newest(client.receipts(**without_none(filter_options)), limit)
    if national.is_national(filter_options.get("recipient")):
        click.echo(national.describe(client, filter_options["recipient"]), err=True)
    if as_json:
        print_json({"items": items, "isComplete": is_complete})
        return
    out = display.console()
    tables.say(out, f"{display.describe_length(len(items), 'receipt', is_complete=is_complete)}.")
    parking.print_receipts(out, items)
    if not items and any(filter_options.get(name) for name in _NAMED):
        tables.say(
            out,
            "What a receipt names is known only of those that wait for a person or were set aside; those that were "
            "recorded are found by the message: `status`, then `--message`.",
        )


@receipts.command()
@_receipt_argument
@json_option
def show(*, receipt_id: str, as_json: bool) -> None:
    """Show a receipt as it came, what it led to, and what to do about it."""
    with api_errors_shown():
        receipt = Client.from_env().receipt(receipt_id)
    if as_json:
        print_json(receipt)
    else:
        parking.print_receipt(display.console(), receipt)


@receipts.command()
@_receipt_argument
@click.argument("message_id", metavar="MESSAGE")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask if they name different numbers.")
@reason_option
@json_option
def match(*, receipt_id: str, message_id: str, is_sure: bool, reason: str | None, as_json: bool) -> None:
    """Match a receipt to the message that it is about.

    It can't be taken back: if the receipt names another number than the message went to, you are asked. Exit code 1 if
    it is recorded about a message of yours already; one that was taken for another system's can be matched.
    """
    client = Client.from_env()
    with api_errors_shown(is_conflict_wrong_use=False):
        try:
            changed = client.match(receipt_id, message_id, reason, any_recipient=is_sure)
        except ApiError as error:
            if "anyRecipient" not in error.errors:
                raise
            named = display.plain(client.receipt(receipt_id).get("recipient"))
            sent_to = display.plain(_recipient_of(client, message_id) or "another number")
            question = f"The receipt names {named}, the message went to {sent_to}. Match all the same?"
            click.confirm(question, abort=True, err=True)
            changed = client.match(receipt_id, message_id, reason, any_recipient=True)
    _print_change(changed, as_json=as_json, done=f"Matched to {display.plain(message_id)}; the worker records it soon.")


@receipts.command()
@_receipt_argument
@reason_option
@json_option
def retry(*, receipt_id: str, reason: str | None, as_json: bool) -> None:
    """Process a receipt again. Exit code 1 if it is recorded already."""
    with api_errors_shown(is_conflict_wrong_use=False):
        _print_change(Client.from_env().retry(receipt_id, reason), as_json=as_json)


@receipts.command()
@_receipt_argument
@needed_reason_option
@json_option
def dismiss(*, receipt_id: str, reason: str, as_json: bool) -> None:
    """Set a receipt aside: it is kept, and not processed any more. Exit code 1 if it is recorded already."""
    with api_errors_shown(is_conflict_wrong_use=False):
        _print_change(Client.from_env().dismiss(receipt_id, reason), as_json=as_json)


@receipts.command()
@_receipt_argument
@reason_option
@json_option
def restore(*, receipt_id: str, reason: str | None, as_json: bool) -> None:
    """Take a dismissal back: the receipt is processed again. Exit code 1 if it is not dismissed."""
    with api_errors_shown(is_conflict_wrong_use=False):
        _print_change(Client.from_env().restore(receipt_id, reason), as_json=as_json)


@click.command(short_help="Was every receipt kept?")
@json_option
@click.pass_context
def ledger(ctx: click.Context, *, as_json: bool) -> None:
    """Was everything kept? How many receipts came, and what became of each, by the counters.

    Exit code 1 if the ledger does not balance. `verify` proves it from the rows.
    """
    with api_errors_shown():
        answer = Client.from_env().ledger()
    if as_json:
        print_json(answer)
    else:
        display.print_ledger(display.console(), answer)
    ctx.exit(0 if answer.get("balanced") is True else 1)


def _recipient_of(client: Client, message_id: str) -> str | None:
    """Whom a message went to; None if the key may not read messages."""
    try:
        return client.message(message_id).get("recipient")
    except ApiError as error:
        if error.status != 403:
            raise
        return None


def _print_change(receipt: Json, *, as_json: bool, done: str = "") -> None:
    """`done`: the sentence to say of a receipt that the worker is to work on now."""
    if as_json:
        print_json(receipt)
        return
    out = display.console()
    if done and receipt.get("outcome") == ReceiptOutcome.PENDING.value:
        tables.say(out, done)
        return
    tables.say(out, parking.describe_receipt(receipt))
    parking.print_receipts(out, [receipt])
