"""The errors that cross module boundaries. `retry_helps`: whether another try can succeed."""


class ReceiptsvcError(Exception):
    """The base of all errors that this service raises on purpose. The text holds no personal data and no secret."""

    retry_helps = False


class SettingsError(ReceiptsvcError):
    """The service can't start with these settings. `faults`: one line for each, with the setting's name."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        lines = ["the settings do not let receiptsvc start:", *(f"  - {fault}" for fault in faults)]
        super().__init__("\n".join(lines) if len(faults) > 1 else faults[0])


class Unreadable(ReceiptsvcError):
    """A callback without anything usable. The text is the reason, for operators."""


class Refused(ReceiptsvcError):
    """A request that does not fit the present state of a receipt or message. The text says why."""


class StorageUnavailable(ReceiptsvcError):
    """The database failed. What was being written may or may not be stored.

    `kind`: the name of the fault in a few words, which anybody may read; None: it has none. The text is for operators:
    it names the database.
    """

    retry_helps = True
    kind: str | None = None

    def __init__(self, text: str, kind: str | None = None) -> None:
        super().__init__(text)
        self.kind = kind or self.kind


class LockTimeout(StorageUnavailable):
    """Another transaction held a lock for too long. Nothing was stored."""


class ReadOnly(StorageUnavailable):
    """The database takes no writes: a standby, or a primary that was demoted. Nothing was stored."""

    kind = "read-only"


class StatementTimeout(StorageUnavailable):
    """A statement took too long, by itself: it waited for no lock. Nothing was stored."""


class NoneFree(StorageUnavailable):
    """Every connection to the database is in use by this process. Nothing was stored."""


class NotMigrated(StorageUnavailable):
    """The database has no tables yet, or not all that this release needs. It passes when the migrations have run."""

    kind = "no tables"


class TooNew(ReceiptsvcError):
    """The database is newer than this release, and does not say that this release may still use it."""

    kind = "newer than this release"
