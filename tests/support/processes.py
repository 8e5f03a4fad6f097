"""Looking at processes and sockets of this machine from outside, by /proc, and waiting for what they do."""

import time
from collections.abc import Callable
from pathlib import Path

_POLL_SECONDS = 0.02, 0.1  # soon, and after some seconds: what is asked costs those who are waited for their time
_PROC = Path("/proc")


def until(what: str, is_so: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Poll until it is so; an AssertionError says what was waited for in vain."""
    began = time.monotonic()
    while not is_so():
        waited = time.monotonic() - began
        assert waited < seconds, f"{what}: not within {seconds:g} s"
        time.sleep(sorted((*_POLL_SECONDS, waited / 20))[1])


def children(pid: int) -> list[int]:
    """The living processes that `pid` started."""
    everybody = (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())
    return sorted(one for one in everybody if _state_and_parent(one)[1] == pid and is_alive(one))


def is_alive(pid: int) -> bool:
    """Whether a process runs, frozen ones included; what is dead and not yet reaped does not."""
    return _state_and_parent(pid)[0] not in {"", "Z", "X"}


def is_frozen(pid: int) -> bool:
    """Whether a process was stopped where it stood, by SIGSTOP."""
    return _state_and_parent(pid)[0] == "T"


def resident_megabytes(pid: int) -> float:
    """The memory that a process holds at the moment."""
    (line,) = (one for one in (_PROC / str(pid) / "status").read_text().splitlines() if one.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def thread_seconds(thread_id: int) -> float:
    """The processor time that a thread has had; a process's id is that of its first thread."""
    return int((_PROC / str(thread_id) / "schedstat").read_text().split()[0]) / 1e9


def unread_bytes(port: int) -> int:
    """What came to a TCP port and was not read by its server yet, connections that it did not accept included."""
    tables = (_PROC / "net" / family for family in ("tcp", "tcp6"))
    lines = [line for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    queues = [fields[4] for fields in map(str.split, lines) if fields[1].endswith(f":{port:04X}")]
    return sum(int(queue.split(":")[1], 16) for queue in queues)


def _state_and_parent(pid: int) -> tuple[str, int]:
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return "", 0
    return fields[0], int(fields[1])
