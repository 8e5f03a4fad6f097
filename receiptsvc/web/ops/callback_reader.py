"""The current application's reader of callbacks, opened when the first page needs it."""

from typing import cast

from flask import current_app

from receiptsvc.domain.callback_reader import CallbackReader
from receiptsvc.dynmark.readers import open_reader
from receiptsvc.web.http import context

_EXTENSION = "receiptsvc.callback_reader"


def current() -> CallbackReader:
    """The reader that the settings choose, as the worker has it."""
    extensions = current_app.extensions
    if _EXTENSION not in extensions:
        extensions[_EXTENSION] = open_reader(context.settings())
    return cast("CallbackReader", extensions[_EXTENSION])
