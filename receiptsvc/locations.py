"""Where the project's files are, and where what it makes itself is kept. What the settings name is `config`'s.

Checked out (`pip install --editable` included), the files that stand beside the package are taken from there.
Installed, they are inside the package, and nothing is ever written beside them: pyproject.toml says which goes where.
"""

import sys
from pathlib import Path

import click

_PACKAGE = Path(__file__).resolve().parent

PROJECT = _PACKAGE.parent  # the checkout; installed, the folder of all packages
IS_CHECKED_OUT = (PROJECT / "pyproject.toml").is_file()

MIGRATIONS = (PROJECT if IS_CHECKED_OUT else _PACKAGE) / "migrations"

# What starts the web process, in the folder PROJECT: in a checkout just as the Procfile does.
WEB_COMMAND = (
    *(sys.executable, "-m", "gunicorn"),
    *(("wsgi",) if IS_CHECKED_OUT else ("-c", "python:receiptsvc.gunicorn_conf", "receiptsvc.wsgi")),
)

# The folder of keys, of the default database, and of what the commands remember.
DATA = PROJECT / "data" if IS_CHECKED_OUT else Path(click.get_app_dir("receiptsvc")).absolute()


def key_path() -> Path:
    """The file of the API key that is made when API_KEYS is unset."""
    return DATA / "api_key"
