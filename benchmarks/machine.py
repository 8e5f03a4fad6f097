"""What the numbers depend on and do not say: the machine, its disk, the database's promises. Read here, and refused
where a promise is not kept.
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
_SYNCS = 100
_LOOK_SECONDS = 1.0


def facts() -> dict[str, str]:
    """Processor, kernel, Python."""
    return {
        "processor": f"{os.cpu_count()} cores, {_processor()}",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }


def busy_share() -> float:
    """How much of the processors' time is in use, from 0 to 1, looked at for a second. To be asked while we rest."""
    began = _processor_times()
    sleep(_LOOK_SECONDS)
    passed = [after - before for before, after in zip(began, _processor_times(), strict=True)]
    return 1 - (passed[3] + passed[4]) / sum(passed)  # idle, and waiting for a disk


def disk(folder: Path) -> dict[str, str]:
    """The file system below a folder and what an fsync costs there. Raises BenchError if it is only memory."""
    told = subprocess.run(
        ["findmnt", "--noheadings", "--output", "FSTYPE,SOURCE", "--target", str(folder)],  # noqa: S607 - of the system
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    if told[0] in _MEMORY_FILESYSTEMS:
        raise BenchError(f"{folder} is on {told[0]}, which is memory: set TMPDIR to a folder on a disk")
    return {"disk": f"{' on '.join(told[:2])}, fsync of 4 KiB {_sync_seconds(folder) * 1000:.2f} ms"}


def postgresql(url: str) -> dict[str, str]:
    """Version and promises of a PostgreSQL, and where its data lies. Raises BenchError if a commit is no promise."""
    with psycopg.connect(url, autocommit=True) as connection:
        told = {
            name: str(connection.execute(f"SHOW {name}").fetchone()[0])  # type: ignore[index]  # SHOW gives one row
            for name in ("server_version", "fsync", "synchronous_commit", "full_page_writes", "data_directory")
        }
    for name in ("fsync", "synchronous_commit"):
        if told[name] != "on":
            raise BenchError(f"PostgreSQL must run with {name} on, not {told[name]}")
    data = Path(told.pop("data_directory"))
    where = disk(data)["disk"].partition(",")[0] if data.exists() else "another machine's disk, not looked at"
    return {"PostgreSQL": _listed(told), "PostgreSQL's data": where}


def resident_bytes(pid: int) -> int:
    """The memory of a process that is really there, in bytes."""
    return _status(pid, "VmRSS") * 1024


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _listed(told: Mapping[str, str]) -> str:
    return ", ".join(value if name == "server_version" else f"{name} {value}" for name, value in told.items())


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise BenchError(f"process {pid} tells no {name}")


def _processor_times() -> list[int]:
    return [int(word) for word in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _sync_seconds(folder: Path) -> float:
    taken = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            file.write(bytes(4096))
            file.flush()
            began = perf_counter()
            os.fsync(file.fileno())
            taken.append(perf_counter() - began)
    return median(taken)
