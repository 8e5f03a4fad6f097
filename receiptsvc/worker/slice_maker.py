"""Makes the inbox's time slices ahead, as a duty of the worker. How that is done is `store.inbox.time_slices`."""

from receiptsvc import logs
from receiptsvc.store.core import time_limits
from receiptsvc.store.core.db import Database
from receiptsvc.store.inbox import time_slices


class SliceMaker:
    """Makes what is missing, and logs once which slices can't be made."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._left: set[str] = set()

    def step(self) -> int:
        """Make the missing slices, as far as nobody holds the locks for it. Returns 0: it is for the next minute."""
        report = time_slices.make_missing(
            lambda: self._database.transaction(time_limits.TIME_SLICE), self._database.clock.now()
        )
        if report.made:
            logs.info("time_slices.made", slices=report.made)
        left = sorted(set(report.left) - self._left)
        if left:
            logs.warning("time_slices.left_to_default", slices=left)
        self._left.update(left)
        return 0
