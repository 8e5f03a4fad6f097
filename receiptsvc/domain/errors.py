"""The errors that rooms tell each other about. Each says in its class whether another try can help."""


class ReceiptsvcError(Exception):
    """Anything this service raises on purpose. Its text holds no personal data and no secret."""

    retry_helps = False


class SettingsError(ReceiptsvcError):
    """The settings do not let the service start. `faults`: one line each, naming the setting."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("the settings do not let receiptsvc start:\n" + "\n".join(f"  - {f}" for f in faults))


class Unreadable(ReceiptsvcError):
    """A callback that says nothing we can use. The text is the reason that ops will read."""


class Refused(ReceiptsvcError):
    """What somebody asked for can't be done with this receipt or message as it stands. The text says why."""


class StorageUnavailable(ReceiptsvcError):
    """The database did not take something. What was offered may or may not be kept."""

    retry_helps = True
