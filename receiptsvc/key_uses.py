"""Notes in memory which keys this process sees used, and writes that from time to time, off the path of any request."""

import threading
from collections.abc import Sequence
from time import monotonic

from receiptsvc import logs
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.store.access import key_uses
from receiptsvc.store.access.key_uses import Kind, Use
from receiptsvc.store.core.db import Database

_LOOK_SECONDS = 5.0
_WRITE_SECONDS = 60.0  # one key is written at most so often; a use is shown as late as that


class KeyUses:
    """The keys that one process has seen used. Any thread may note one; one thread writes."""

    def __init__(self) -> None:
        self._seen: dict[Use, bool] = {}
        self._written_at: dict[Use, float] = {}

    def note(self, kind: Kind, name: str) -> None:
        """A key is being used."""
        self._seen[kind, name] = True

    def write(self, database: Database) -> Sequence[Use]:
        """Write what has been seen since it was last written, but for what was written lately; which keys that were.

        Raises StorageUnavailable; then they are written the next time.
        """
        now = monotonic()
        due = [use for use in list(self._seen) if now - self._written_at.get(use, -_WRITE_SECONDS) >= _WRITE_SECONDS]
        if due:
            for use in due:
                self._seen.pop(use, None)  # before it is written: what is seen meanwhile counts anew
            try:
                with database.transaction() as session:
                    key_uses.write(session, due, database.clock.now())
            except StorageUnavailable:
                self._seen |= dict.fromkeys(due, True)
                raise
            self._written_at |= dict.fromkeys(due, now)
        return due


def keep_writing(uses: KeyUses, database: Database, stop: threading.Event) -> None:
    """Write the uses until `stop`. For a thread of its own. An outage is for others to tell of."""
    while not stop.wait(_LOOK_SECONDS):
        try:
            uses.write(database)
        except StorageUnavailable:
            continue
        except Exception as error:  # noqa: BLE001 - a key that seems unused may be removed, so this must go on
            logs.error("web.key_uses_not_written", error)
