"""The error of a command line that is right by itself, and is refused by a setting, a file or the service."""

import click


class WrongUse(click.ClickException):
    """Exit code 2. Unlike click's UsageError it shows no usage lines, which would not tell what to change."""

    exit_code = 2
