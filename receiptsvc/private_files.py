"""Folders and files that only their owner may read, whatever the umask: keys, SQLite's files, locks.

What is there already keeps its mode; `warn_of_open` names it.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from receiptsvc import logs

_OTHERS = 0o077


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, if they are missing. Raises OSError."""
    if path.is_dir():
        return
    make_folder(path.parent)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(0o700)


def make_file(path: Path) -> None:
    """Make an empty file if there is none. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def warn_of_open(paths: Iterable[Path]) -> None:
    """Log which of these, as far as they exist, others than their owner may read, write or enter."""
    found = []
    for path in paths:
        with suppress(OSError):
            mode = path.stat().st_mode & 0o777
            if mode & _OTHERS:
                found.append(f"{path} ({mode:04o})")
    if found:
        logs.warning("files.open_to_others", files=found)
