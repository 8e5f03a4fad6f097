"""Where the lines of the log go: to standard error, without a wait. What they say is the business of `logs`."""

import fcntl
import logging
import os
import select
import stat
import sys
import termios
from contextlib import suppress
from typing import TextIO

from receiptsvc import logs

_PIPE_BYTES = 1024 * 1024  # of stderr, if it is a pipe: some thousand lines, while its reader is busy


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes lines to stderr, and waits for nobody: what reads them may stand still, and callbacks must not.

    A line for which there is no room is dropped. Before the next one for which there is some stands their number.
    """

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._dropped = 0
        with suppress(OSError, ValueError, AttributeError):  # no pipe, or not on Linux, or the system allows less
            fcntl.fcntl(self.stream.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or drop it."""
        if not _has_room(self.stream):
            self._dropped += 1
            return
        if self._dropped:
            super().emit(logs.record_of_dropped(self._dropped))
            self._dropped = 0
        super().emit(record)


def _has_room(stream: TextIO) -> bool:
    """Whether a line can be written without a wait. Of a pipe half is left free, as several processes write to one."""
    try:
        descriptor = stream.fileno()
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode) and hasattr(fcntl, "F_GETPIPE_SZ"):
            unread = int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)
            return 2 * unread < fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
        poller = select.poll()
        poller.register(descriptor, select.POLLOUT)
        return stat.S_ISREG(mode) or bool(poller.poll(0))
    except (OSError, ValueError):
        return True  # it is no file, or fails: then nothing waits for it
