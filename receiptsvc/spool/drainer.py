"""When the spool is emptied: once the database takes callbacks again, by whichever process of this host is first."""

from pathlib import Path

import gevent
from gevent.event import Event

from receiptsvc import logs
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.server.threads import NativeThreads
from receiptsvc.spool.drain import drain
from receiptsvc.spool.writer import SUFFIX, Spool
from receiptsvc.store.inbox.writer import InboxWriter

_SECONDS = 1.0
_LONG_SECONDS = 15.0  # after a look that found only what cannot be moved, or what another process moves


class Drainer:
    """Looks every second, on a native thread and through a door of its own: no callback waits for an old one."""

    def __init__(self, folder: Path, spool: Spool, door: InboxWriter) -> None:
        self._folder, self._spool, self._door = folder, spool, door
        self._thread = NativeThreads(1)
        self._closing = Event()
        gevent.spawn(self._run)

    def close(self) -> None:
        """Stop after the group that is being written; what is left waits for the next process."""
        self._closing.set()

    def _run(self) -> None:
        pause = _SECONDS
        while not self._closing.wait(pause):
            pause = _SECONDS
            try:
                if not self._thread.run(self._drain):
                    pause = _LONG_SECONDS
            except StorageUnavailable:
                continue  # the callbacks themselves make enough noise about it
            except Exception as error:  # noqa: BLE001 - the next look is a second away
                logs.error("spool.drainage_failed", error)

    def _drain(self) -> bool:
        """Whether there was nothing to do, or something could be done."""
        if not any(self._folder.glob(f"*{SUFFIX}")):
            return True
        self._door.keep([])  # is the database there at all? Raises StorageUnavailable
        self._spool.seal()
        return drain(self._folder, self._door.keep, stop=self._closing.is_set) > 0
