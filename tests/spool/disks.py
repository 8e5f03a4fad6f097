"""Disks on which things really go wrong. Making the small ones takes root and a system that lets it mount."""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """For this process every file is full at `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def mounted(folder: Path, *words: str) -> Iterator[Path]:
    """A folder with something mounted on it; skips the test, and says so, where that is impossible."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *words, str(folder)], capture_output=True, text=True, check=False)  # noqa: S607 - the system's
    if done.returncode:
        pytest.skip(f"this system mounts nothing: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)  # noqa: S607 - the system's


@contextmanager
def small(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A disk in memory that is soon full."""
    with mounted(folder, "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs") as disk:
        yield disk


@contextmanager
def promising_too_much(folder: Path) -> Iterator[Path]:
    """The image of a disk of 16 MiB with 2 MiB behind it, to be mounted: it takes writes, and then fails to sync them.

    It has a journal, as any disk does that may be trusted: ext4 without one loses here what it had synced before.
    """
    mkfs = shutil.which("mkfs.ext4", path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin")
    if mkfs is None:
        pytest.skip("there is no mkfs.ext4")
    with small(folder, 2048) as backing:
        image = backing / "image"
        with image.open("wb") as file:
            file.truncate(16 * 1024 * 1024)
        subprocess.run([mkfs, "-q", str(image)], check=True, capture_output=True)
        yield image


def mend(backing: Path) -> None:
    """Put space behind a disk that promised too much."""
    words = ["mount", "-o", "remount,size=32m", str(backing)]
    subprocess.run(words, check=True, capture_output=True)
