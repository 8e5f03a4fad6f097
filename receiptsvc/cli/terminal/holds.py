"""What the commands that send say where nothing goes out for now: see `display.is_held`."""

import click

from receiptsvc.cli.terminal.display import is_held, plain
from receiptsvc.client import ApiError, Client, Unreachable


def say(client: Client) -> None:
    """Say on standard error why what was accepted waits, if it does and the key may read it."""
    why = _describe(client)
    if why:
        click.echo(why, err=True)


def _describe(client: Client) -> str:
    try:
        state = client.sending()
    except (ApiError, Unreachable):
        return ""
    if not is_held(state):
        return ""
    if state.get("paused"):
        why = f"sending is paused by {plain(state.get('pausedBy'))}"
    elif state.get("canSend") is False:
        why = "the service has no gateway account"
    elif state.get("workers") == 0:
        why = "no worker is at work"
    elif state.get("accountRefusedAt"):
        why = "the gateway refuses our credentials"
    else:
        why = "the gateway can't be reached or gives no clear answer"
    return f"What was accepted waits: {why}. `sending` says more."
