"""Reads what the numbers depend on: the machine, its disk, and the database's durability settings.

A disk that is memory, and a PostgreSQL that does not fsync its commits, are refused.
"""

import os
import platform
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import psycopg

from benchmarks.tools import BenchError

_MEMORY_FILESYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_FSYNCS = 100
_SAMPLE_SECONDS = 1.0


def facts() -> dict[str, str]:
    """Processor, kernel, Python."""
    return {
        "processor": f"{os.cpu_count()} cores, {_processor()}",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }


def busy_share() -> float:
    """The share of the processors' time in use during one second, from 0 to 1. Call it while the bench is idle."""
    started = _processor_times()
    sleep(_SAMPLE_SECONDS)
    elapsed = [after - before for before, after in zip(started, _processor_times(), strict=True)]
    return 1 - (elapsed[3] + elapsed[4]) / sum(elapsed)  # without idle and iowait


def disk(folder: Path) -> dict[str, str]:
    """The file system of a folder, and how long an fsync takes there. Raises BenchError if it is memory."""
    filesystem = subprocess.run(
        ["findmnt", "--noheadings", "--output", "FSTYPE,SOURCE", "--target", str(folder)],  # noqa: S607 - of the system
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    if filesystem[0] in _MEMORY_FILESYSTEMS:
        raise BenchError(f"{folder} is on {filesystem[0]}, which is memory: set TMPDIR to a folder on a disk")
    return {"disk": f"{' on '.join(filesystem[:2])}, fsync of 4 KiB {_fsync_seconds(folder) * 1000:.2f} ms"}


def postgresql(url: str) -> dict[str, str]:
    """Version and durability settings of a PostgreSQL, and its disk. Raises BenchError if commits are not durable."""
    with psycopg.connect(url, autocommit=True) as connection:
        settings = {
            name: str(connection.execute(f"SHOW {name}").fetchone()[0])  # type: ignore[index]  # SHOW gives one row
            for name in ("server_version", "fsync", "synchronous_commit", "full_page_writes", "data_directory")
        }
    for name in ("fsync", "synchronous_commit"):
        if settings[name] != "on":
            raise BenchError(f"PostgreSQL must run with {name} on, not {settings[name]}")
    data = Path(settings.pop("data_directory"))
    where = disk(data)["disk"].partition(",")[0] if data.exists() else "another machine's disk, not read"
    return {"PostgreSQL": _join(settings), "PostgreSQL's data": where}


def resident_bytes(pid: int) -> int:
    """A process's resident memory in bytes."""
    return _read_status(pid, "VmRSS") * 1024


def processor_seconds(pid: int) -> float:
    """How long a process has used a processor, in user and system mode, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The pids of a process's children."""
    return [int(pid) for pid in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _join(settings: Mapping[str, str]) -> str:
    return ", ".join(value if name == "server_version" else f"{name} {value}" for name, value in settings.items())


def _read_status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise BenchError(f"process {pid} has no {name}")


def _processor_times() -> list[int]:
    return [int(ticks) for ticks in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _fsync_seconds(folder: Path) -> float:
    durations = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_FSYNCS):
            file.write(bytes(4096))
            file.flush()
            started = perf_counter()
            os.fsync(file.fileno())
            durations.append(perf_counter() - started)
    return median(durations)
