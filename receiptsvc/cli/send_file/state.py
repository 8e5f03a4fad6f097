"""The resume state of a file that is being sent: a small JSON file that says which chunks the service has taken.

A job that is run again submits the same chunks with the same Idempotency-Keys, so that the service recognises them.
The state holds ids only, no number and no text, and is replaced atomically: a kill leaves the old one or the new one.
"""

import json
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from receiptsvc.domain import references
from receiptsvc.domain.errors import ReceiptsvcError

SUFFIX = ".receiptsvc.json"

_VERSION = 1


class StateError(ReceiptsvcError):
    """The job's state can't be read or written, or does not fit the file. The text says what to do."""


@dataclass(kw_only=True, slots=True)
class Chunk:
    """The messages of one request."""

    messages: int
    is_begun: bool = False  # whether it was submitted; begun without ids: the answer was lost
    ids: list[str] | None = None  # of the messages that the service made from it


@dataclass(kw_only=True, slots=True)
class Job:
    """What is sent, and how far it is. `save` persists changes."""

    path: Path
    id: str
    digest: str  # of the file's bytes
    sender: str  # the fingerprint of the service and the API key
    started_at: str
    chunks: list[Chunk] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Whether the service has taken all of it."""
        return all(chunk.ids is not None for chunk in self.chunks)

    @property
    def is_unclear(self) -> bool:
        """Whether a chunk was submitted and never answered."""
        return any(chunk.is_begun and chunk.ids is None for chunk in self.chunks)

    @property
    def messages(self) -> int:
        """How many messages the file has."""
        return sum(chunk.messages for chunk in self.chunks)

    @property
    def taken(self) -> int:
        """How many of them the service has taken, as far as it answered."""
        return sum(chunk.messages for chunk in self.chunks if chunk.ids is not None)

    @property
    def ids(self) -> list[str]:
        """The ids of the messages that the service made: one for each recipient."""
        return [message_id for chunk in self.chunks for message_id in chunk.ids or ()]

    def key(self, index: int) -> str:
        """The Idempotency-Key of a chunk."""
        return references.file_key(self.id, index)

    def save(self, *, is_new: bool = False) -> None:
        """Write the state with fsync. Raises StateError; also if it `is_new` and another run has just started one."""
        state = {**asdict(self), "version": _VERSION}
        del state["path"]
        scratch = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(state, file)
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                os.link(scratch, self.path)  # unlike a rename, this never replaces another run's state
                scratch.unlink()
            else:
                scratch.replace(self.path)
            _fsync(self.path.parent)
        except OSError as error:
            with suppress(OSError):
                scratch.unlink()
            if isinstance(error, FileExistsError):
                raise StateError(
                    "another run has just started to send this; run it again to continue that one"
                ) from error
            raise StateError(
                f"{self.path}: the state of sending can't be written ({error.strerror}), and nothing is sent without "
                "it; --job NAME keeps it in the data folder"
            ) from error


def start(path: Path, *, digest: str, chunks: Sequence[int], sender: str, is_again: bool) -> Job:
    """Start a job and save its state. `is_again`: replace a state that may be there. Raises StateError."""
    job = Job(
        path=path,
        id=secrets.token_hex(12),
        digest=digest,
        sender=sender,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        chunks=[Chunk(messages=messages) for messages in chunks],
    )
    job.save(is_new=not is_again)
    return job


def load(path: Path) -> Job | None:
    """The job saved at `path`; None if there is no file. Raises StateError."""
    try:
        state = json.loads(path.read_bytes())
        if state.pop("version") != _VERSION:
            raise ValueError
        return Job(path=path, **{**state, "chunks": [Chunk(**chunk) for chunk in state["chunks"]]})
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{path}: the state of sending can't be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateError(
            f"{path}: this is not a readable state of sending. If nothing of the file was ever sent, delete it; "
            "otherwise look with `status` at what was sent, and send the rest from another file"
        ) from error


def _fsync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
