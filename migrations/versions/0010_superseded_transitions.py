"""Finds the transitions of a receipt that were superseded, which are few, without reading all."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None
oldest_compatible = "0001"

_WHERE = sa.text("superseded_at IS NOT NULL")


def upgrade() -> None:
    op.create_index(
        "ix_transitions_superseded_receipt_id",
        "transitions",
        ["receipt_id"],
        unique=False,
        postgresql_where=_WHERE,
        sqlite_where=_WHERE,
    )


def downgrade() -> None:
    op.drop_index("ix_transitions_superseded_receipt_id", "transitions")
