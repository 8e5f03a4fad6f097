"""A job: a file on its way out, chunk by chunk, and the small file that tells how far it is.

Whoever runs the same job again offers the same chunks by the same names, so that the service knows what it has already.
The state holds ids only, no number and no text, and is replaced as a whole: a kill leaves the old one or the new one.
"""

import json
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from receiptsvc.domain.errors import ReceiptsvcError

SUFFIX = ".receiptsvc.json"

_VERSION = 1


class StateError(ReceiptsvcError):
    """A job's state that can't be read or written, or that is not of what should be sent. Says what to do."""


@dataclass(kw_only=True, slots=True)
class Chunk:
    """Messages of one request."""

    messages: int
    is_begun: bool = False  # whether it was offered: without ids, what became of that is not known
    ids: list[str] | None = None  # of the messages that the service made of it


@dataclass(kw_only=True, slots=True)
class Job:
    """What is sent, and how far it is. `save` makes a change last."""

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
        """Whether a chunk was offered and never answered."""
        return any(chunk.is_begun and chunk.ids is None for chunk in self.chunks)

    @property
    def messages(self) -> int:
        """How many messages of the file there are."""
        return sum(chunk.messages for chunk in self.chunks)

    @property
    def taken(self) -> int:
        """How many of them the service has taken, as far as it answered."""
        return sum(chunk.messages for chunk in self.chunks if chunk.ids is not None)

    @property
    def ids(self) -> list[str]:
        """What the service made of them: one id for each recipient."""
        return [one for chunk in self.chunks for one in chunk.ids or ()]

    def key(self, place: int) -> str:
        """The Idempotency-Key of a chunk."""
        return f"{self.id}-{place}"

    def save(self, *, is_new: bool = False) -> None:
        """Put the state on the disk. Raises StateError; also if it `is_new` and another run has just begun one."""
        written = {**asdict(self), "version": _VERSION}
        del written["path"]
        scratch = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(written, file)
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                os.link(scratch, self.path)  # unlike a rename, this never takes the place of another run's
                scratch.unlink()
            else:
                scratch.replace(self.path)
            _sync(self.path.parent)
        except OSError as error:
            with suppress(OSError):
                scratch.unlink()
            if isinstance(error, FileExistsError):
                raise StateError(
                    "another run has just begun to send this; run it again to go on with that one"
                ) from error
            raise StateError(
                f"{self.path}: the state of sending can't be written ({error.strerror}), and without it nothing is "
                "sent; --job NAME keeps it in the data folder"
            ) from error


def start(path: Path, *, digest: str, chunks: Sequence[int], sender: str, is_again: bool) -> Job:
    """A new job, its state on the disk. `is_again`: in place of what may be there. Raises StateError."""
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
    """The job whose state stands there, if any does. Raises StateError."""
    try:
        given = json.loads(path.read_bytes())
        if given.pop("version") != _VERSION:
            raise ValueError
        return Job(path=path, **{**given, "chunks": [Chunk(**chunk) for chunk in given["chunks"]]})
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{path}: the state of sending can't be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateError(
            f"{path}: this is no state of sending that can be read. If nothing of the file was ever sent, delete it; "
            "else look with `status` at what was, and send the rest from another file"
        ) from error


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
