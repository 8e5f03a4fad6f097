"""`web`: becomes the web process. What that is stands in wsgi.py, how gunicorn runs it in gunicorn.conf.py."""

import os

import click

from receiptsvc.config import Settings
from receiptsvc.locations import PROJECT, WEB_COMMAND


@click.command()
def web() -> None:
    """Answer callbacks and API requests, until SIGTERM. The Procfile does the same."""
    Settings.from_env()  # what is wrong with them is said as by any other command
    os.chdir(PROJECT)
    os.execv(WEB_COMMAND[0], WEB_COMMAND)  # noqa: S606 - without a shell, and nothing of it comes from outside
