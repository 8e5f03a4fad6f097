"""Problems in words, with the rows behind them and what was done about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.problems import KINDS, Harm, Kind, harm_of, has_stopped, remedy, title
from receiptsvc.store.core import audits
from receiptsvc.store.core.models import Audit, ProblemRow
from receiptsvc.store.health import problem_rows, problems
from receiptsvc.store.health.problem_rows import Examples, RowFilter
from receiptsvc.store.inbox.receipts import ReceiptFilter
from receiptsvc.store.queries.listing import MessageFilter
from receiptsvc.web.http import context
from receiptsvc.web.http.fields import write_moment


@dataclass(frozen=True, kw_only=True, slots=True)
class DescribedProblem:
    """A problem. `name`: of its kind, without anything of its cause. `has_stopped`: it is only kept in mind."""

    row: ProblemRow
    title: str
    name: str
    harm: Harm
    has_stopped: bool
    remedy: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ProblemStory(DescribedProblem):
    """A problem and all about it. `rows`: what lists its rows; None: it has none."""

    rows: RowFilter | None
    examples: Examples
    audits: Sequence[Audit]

    @property
    def receipt_query(self) -> dict[str, Any] | None:
        """What lists its receipts, as the API takes it."""
        where = self.rows.where if self.rows is not None else None
        if not isinstance(where, ReceiptFilter):
            return None
        return _given(
            outcome=[outcome.value for outcome in where.outcomes],
            channel=where.channel.value if where.channel is not None else None,
            providerStatusId=where.names.provider_status_id,
            providerDescription=where.names.provider_description,
            keyId=where.names.kid,
        )

    @property
    def message_query(self) -> dict[str, Any] | None:
        """What lists its messages, as the API takes it."""
        where = self.rows.where if self.rows is not None else None
        if not isinstance(where, MessageFilter):
            return None
        until = write_moment(where.until) if where.until is not None else None
        return _given(status=list(where.statuses), originator=where.originator, until=until)

    @property
    def is_exact(self) -> bool | None:
        """Whether that lists no rows of other causes; None: it has no rows."""
        return self.rows.is_exact if self.rows is not None else None

    @property
    def receipt_ids(self) -> Sequence[UUID]:
        """Some of its receipts."""
        return [entry.row.id for entry in self.examples.receipts]

    @property
    def message_ids(self) -> Sequence[UUID]:
        """Some of its messages."""
        return [message.id for message in self.examples.messages]


def describe(row: ProblemRow) -> DescribedProblem:
    """A problem in words."""
    kind = Kind(row.kind)
    now = context.now()
    return DescribedProblem(
        row=row,
        title=title(kind, row.cause, row.count, is_all=row.is_all),
        name=KINDS[kind].name,
        harm=harm_of(kind, row.last_at, now),
        has_stopped=has_stopped(kind, row.last_at, now),
        remedy=remedy(kind, row.cause),
    )


def read(session: Session, problem_id: UUID) -> ProblemStory | None:
    """A problem and all about it; None if there is none with this id."""
    row = problems.find(session, problem_id)
    if row is None:
        return None
    words, rows = describe(row), problem_rows.filter_of(row, context.now())
    return ProblemStory(
        row=row,
        title=words.title,
        name=words.name,
        harm=words.harm,
        has_stopped=words.has_stopped,
        remedy=words.remedy,
        rows=rows,
        examples=problem_rows.find_examples(session, row, rows),
        audits=audits.read(session, ids.public(problems.PREFIX, problem_id)),
    )


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
