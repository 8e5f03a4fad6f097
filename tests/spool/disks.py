"""Real disks that fail: full, read-only, or unable to sync. Most need root and a system that allows mounts."""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def limit_file_size(size: int) -> Iterator[None]:
    """For this process no file can grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[Path]:
    """A folder with something mounted on it; skips the test, with a reason, where that is impossible."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    folder.mkdir(exist_ok=True)
    completed = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True, check=False)  # noqa: S607 - the system's own program
    if completed.returncode:
        pytest.skip(f"this system allows no mounts: {completed.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)  # noqa: S607 - the system's own program


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A small disk in memory."""
    with mounted(folder, "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs") as disk:
        yield disk


@contextmanager
def overcommitted_disk(folder: Path) -> Iterator[Path]:
    """The image of a 16 MiB disk with 2 MiB of space, to be mounted: it accepts writes and then fails to sync them.

    It has a journal, as every trustworthy disk does: ext4 without one loses here what it had synced before.
    """
    mkfs = shutil.which("mkfs.ext4", path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin")
    if mkfs is None:
        pytest.skip("there is no mkfs.ext4")
    with small_disk(folder, 2048) as backing:
        image = backing / "image"
        with image.open("wb") as file:
            file.truncate(16 * 1024 * 1024)
        subprocess.run([mkfs, "-q", str(image)], check=True, capture_output=True)
        yield image


def add_space(backing: Path) -> None:
    """Give an overcommitted disk the space that it lacks."""
    arguments = ["mount", "-o", "remount,size=32m", str(backing)]
    subprocess.run(arguments, check=True, capture_output=True)
