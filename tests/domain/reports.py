"""Builders of reports for the tests of fold and explanation."""

from datetime import UTC, datetime, timedelta

from receiptsvc.domain.statuses import Report, Source, Status

T0 = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def minutes(count: float) -> datetime:
    return T0 + timedelta(minutes=count)


def said(word: Status | None, at: float | None = None, *, received: float = 60, code: str | None = None) -> Report:
    """A report of the gateway. `at`: its own time, in minutes; `received`: ours."""
    return Report(
        source=Source.GATEWAY,
        status=word,
        received_at=minutes(received),
        occurred_at=None if at is None else minutes(at),
        provider_status_id=code,
        provider_description=word and word.value,
    )


def own(word: Status, at: float = 0) -> Report:
    return Report(source=Source.OURSELVES, status=word, received_at=minutes(at))


ACCEPTED = own(Status.ACCEPTED)
