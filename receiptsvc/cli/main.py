"""The table of all commands, and how an error ends the process.

Exit codes: 0 fine, 1 found a fault, 2 wrong use, 130 interrupted. Each command is in its own module.
"""

import importlib

import click

from receiptsvc import __version__
from receiptsvc.domain.errors import ReceiptsvcError, SettingsError

_SERVICE = "receiptsvc[server]"

# Imported only when they are run: `urls` needs no SOAP library, and `send` no database.
_COMMANDS = {
    "callback-keys": "receiptsvc.cli.callback_urls:callback_keys",
    "cancel": "receiptsvc.cli.send_control:cancel",
    "conversation": "receiptsvc.cli.lookup:conversation",
    "demo": "receiptsvc.cli.demo:demo",
    "migrate": "receiptsvc.cli.migrate:migrate",
    "new-secret": "receiptsvc.cli.new_secret:new_secret",
    "pause": "receiptsvc.cli.send_control:pause",
    "rebuild": "receiptsvc.cli.rebuild:rebuild",
    "replay": "receiptsvc.cli.replay:replay",
    "resolve": "receiptsvc.cli.send_control:resolve",
    "resume": "receiptsvc.cli.send_control:resume",
    "sandbox": "receiptsvc.cli.sandbox:sandbox",
    "send": "receiptsvc.cli.send:send",
    "sending": "receiptsvc.cli.send_control:sending",
    "status": "receiptsvc.cli.lookup:status",
    "suppressions": "receiptsvc.cli.suppressions:suppressions",
    "urls": "receiptsvc.cli.callback_urls:urls",
    "verify": "receiptsvc.cli.verify:verify",
    "web": "receiptsvc.cli.web:web",
    "worker": "receiptsvc.cli.worker:worker",
}


class _Uninstalled(click.Command):
    """Stands for a command of the service where only the client is installed, and says what is missing."""

    def __init__(self, name: str, missing: str) -> None:
        remedy = f"pip install '{_SERVICE}'"
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
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] == "receiptsvc":
                raise
            return _Uninstalled(cmd_name, error.name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{_COMMANDS[cmd_name]} is not a command")
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise click.UsageError(str(error)) from error
        except ReceiptsvcError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt as interrupt:
            raise click.exceptions.Exit(130) from interrupt


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="receiptsvc", message="%(prog)s %(version)s")
def commands() -> None:
    """Send SMS through the Dynmark gateway, and see what became of them.

    Exit codes: 0 fine, 1 found a fault, 2 wrong use.
    """
