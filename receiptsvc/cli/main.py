"""The table of all commands, and how an error ends the process.

Exit codes: 0 fine, 1 found a fault, 2 wrong use, 130 interrupted. Each command is in its own module.
"""

import gc
import importlib
from types import ModuleType

import click
from click.exceptions import NoSuchCommand

from receiptsvc import __version__
from receiptsvc.cli.terminal.wrong_use import WrongUse
from receiptsvc.domain.errors import ReceiptsvcError, SettingsError

_SERVICE = ".[server]"

# Imported only when they are run: `urls` needs no SOAP library, and `send` no database.
_ASK = {
    "status": "receiptsvc.cli.lookup:status",
    "explain": "receiptsvc.cli.lookup:explain",
    "conversation": "receiptsvc.cli.lookup:conversation",
    "recipient": "receiptsvc.cli.lookup:recipient",
    "search": "receiptsvc.cli.lookup:search",
    "inbound": "receiptsvc.cli.lists:inbound",
    "receipts": "receiptsvc.cli.receipts:receipts",
    "ledger": "receiptsvc.cli.receipts:ledger",
    "overdue": "receiptsvc.cli.lists:overdue",
    "stats": "receiptsvc.cli.lists:stats",
    "export": "receiptsvc.cli.export:export",
}
_SEND = {
    "send": "receiptsvc.cli.send:send",
    "sending": "receiptsvc.cli.send_control:sending",
    "pause": "receiptsvc.cli.send_control:pause",
    "resume": "receiptsvc.cli.send_control:resume",
    "cancel": "receiptsvc.cli.send_control:cancel",
    "resolve": "receiptsvc.cli.send_control:resolve",
    "suppressions": "receiptsvc.cli.suppressions:suppressions",
}
_RUN = {
    "migrate": "receiptsvc.cli.migrate:migrate",
    "web": "receiptsvc.cli.web:web",
    "worker": "receiptsvc.cli.worker:worker",
    "urls": "receiptsvc.cli.callback_urls:urls",
    "callback-keys": "receiptsvc.cli.callback_urls:callback_keys",
    "new-secret": "receiptsvc.cli.new_secret:new_secret",
    "users": "receiptsvc.cli.users:users",
    "verify": "receiptsvc.cli.verify:verify",
    "replay": "receiptsvc.cli.replay:replay",
    "rebuild": "receiptsvc.cli.rebuild:rebuild",
}
_TRY = {
    "demo": "receiptsvc.cli.demo:demo",
    "sandbox": "receiptsvc.cli.sandbox:sandbox",
}
_SECTIONS = {
    "Ask (over HTTP)": _ASK,
    "Send (over HTTP)": _SEND,
    "Operate (on settings and database)": _RUN,
    "Try (by themselves)": _TRY,
}
OVER_HTTP = {**_ASK, **_SEND}  # they need no settings of the service, and none of its packages
_COMMANDS = {**OVER_HTTP, **_RUN, **_TRY}


class _Uninstalled(click.Command):
    """Stands for a command of the service where only the client is installed, and says what is missing."""

    def __init__(self, name: str, missing: str) -> None:
        remedy = f"in a checkout of it: pip install '{_SERVICE}'"
        super().__init__(name, help=f"Not installed: {remedy}", add_help_option=False)
        self._remedy = f"{name} needs the service, and the package {missing} is not installed: {remedy}"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:  # noqa: ARG002 - click's signature
        raise click.ClickException(self._remedy)


class _Commands(click.Group):
    """Imports commands by the table, and turns our own errors into one message and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        try:
            command = getattr(_import(module), attribute)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] == "receiptsvc":
                raise
            return _Uninstalled(cmd_name, error.name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{_COMMANDS[cmd_name]} is not a command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command, or an error that names the nearest: click knows only those that are imported."""
        try:
            return super().resolve_command(ctx, args)
        except NoSuchCommand as error:
            raise NoSuchCommand(error.command_name, possibilities=_COMMANDS, ctx=ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, _COMMANDS))
        for title, commands in _SECTIONS.items():
            found = [(name, self.get_command(ctx, name)) for name in commands]
            limit = formatter.width - 6 - width
            rows = [(name, command.get_short_help_str(limit)) for name, command in found if command is not None]
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in rows])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise WrongUse(str(error)) from error
        except ReceiptsvcError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt as interrupt:
            raise click.exceptions.Exit(130) from interrupt


def _import(module: str) -> ModuleType:
    """Import without collecting garbage: there is none, and to look for it took a tenth of the processor's time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        if was_enabled:
            gc.enable()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="receiptsvc", message="%(prog)s %(version)s")
def commands() -> None:
    """Send SMS through the Dynmark gateway, and see what became of them.

    Exit codes: 0 fine, 1 found a fault, 2 wrong use.
    """
