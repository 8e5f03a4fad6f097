"""The one place that names, by transport, what reads the callbacks about what was sent by it.

The web process reads callbacks, and sends nothing: it does not load what sends, which takes 13 MB.
"""

from collections.abc import Callable, Mapping

from receiptsvc.config import Settings
from receiptsvc.domain.callback_reader import CallbackReader
from receiptsvc.dynmark import status_map
from receiptsvc.dynmark.inbound.reader import DynmarkReader


def _dynmark_reader(settings: Settings) -> CallbackReader:
    return DynmarkReader(status_map=status_map.load(settings.status_map), zone=settings.gateway_timezone)


READERS: Mapping[str, Callable[[Settings], CallbackReader]] = {"soap": _dynmark_reader, "rest": _dynmark_reader}


def open_reader(settings: Settings) -> CallbackReader:
    """What reads all callbacks: the reader of the transport that the settings choose."""
    return READERS[settings.transport](settings)
