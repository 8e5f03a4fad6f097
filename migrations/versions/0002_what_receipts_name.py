"""What receipts name that were not simply recorded, and since when counts are broken down."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
oldest_compatible = "0001"

_TABLE = "receipt_references"
_SINCE = "kind = 'since'"
_OLDER_RELEASE = timedelta(hours=2)  # for which it may still work, and count less
_INDEXED = (
    *("recipient", "recipient_end", "transaction_id", "client_ref"),
    *("provider_status_id", "description_key", "kid"),
)


def upgrade() -> None:
    op.create_table(
        _TABLE,
        sa.Column("receipt_id", sa.Uuid(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=True),
        sa.Column("recipient_end", sa.Text(), nullable=True),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("client_ref", sa.Text(), nullable=True),
        sa.Column("provider_status_id", sa.Text(), nullable=True),
        sa.Column("provider_description", sa.Text(), nullable=True),
        sa.Column("description_key", sa.Text(), nullable=True),
        sa.Column("kid", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("receipt_id", name=op.f("pk_receipt_references")),
    )
    for name in _INDEXED:
        op.create_index(f"ix_receipt_references_{name}_receipt_id", _TABLE, [name, "receipt_id"], unique=False)
    op.create_index(
        "ix_hourly_counts_since",
        "hourly_counts",
        ["hour"],
        unique=False,
        postgresql_where=sa.text(_SINCE),
        sqlite_where=sa.text(_SINCE),
    )
    messages = sa.table("messages")
    if op.get_bind().scalar(sa.select(sa.literal(1)).select_from(messages).limit(1)) is not None:
        counts = sa.table(
            "hourly_counts",
            sa.column("hour", sa.DateTime(timezone=True)),
            *(sa.column(name) for name in ("kind", "originator", "label", "slot", "value")),
        )
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + _OLDER_RELEASE
        stored = hour if op.get_bind().dialect.name == "postgresql" else hour.replace(tzinfo=None)
        row = {"hour": stored, "kind": "since", "originator": "", "label": "", "slot": 0, "value": 0}
        op.get_bind().execute(sa.insert(counts), row)


def downgrade() -> None:
    op.execute(sa.text("DELETE FROM hourly_counts WHERE kind IN ('places', 'codes', 'since')"))
    op.drop_index("ix_hourly_counts_since", "hourly_counts")
    op.drop_table(_TABLE)
