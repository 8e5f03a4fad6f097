"""How long a message has waited for its final report: members that several answers have. The rule is in `domain`."""

from typing import Any

from marshmallow import fields

from receiptsvc.domain import waiting
from receiptsvc.domain.statuses import Status
from receiptsvc.web.schemas.base import SchemaContext, about


def _waiting_seconds(of_message: Any) -> int | None:
    """`of_message`: what has the message as its `row`."""
    row = of_message["row"] if isinstance(of_message, dict) else of_message.row
    waited = waiting.measure(
        Status(row.status),
        created_at=row.created_at,
        deliver_after=row.deliver_after,
        now=SchemaContext.get().now(),
    )
    return int(waited.total_seconds()) if waited is not None else None


def _is_overdue(of_message: Any) -> bool:
    seconds = _waiting_seconds(of_message)
    return seconds is not None and seconds >= waiting.OVERDUE_AFTER.total_seconds()


def waiting_seconds() -> fields.Field[Any]:
    """The member `waitingSeconds`."""
    return fields.Function(
        _waiting_seconds,
        metadata=about(
            "How long it has waited for its final report, since its acceptance or its deliverAfter; null: it has one.",
            None,
            type=["integer", "null"],
        ),
    )


def overdue() -> fields.Field[Any]:
    """The member `overdue`."""
    return fields.Function(
        _is_overdue, metadata=about("Whether it has waited for an hour or longer.", False, type="boolean")
    )
