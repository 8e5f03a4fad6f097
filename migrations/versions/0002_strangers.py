"""Callbacks with a wrong key: a mark on those that are kept, and a small table for a sample of those that are not."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("inbox", sa.Column("is_stranger", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        "refused_callbacks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("kid", sa.Text(), nullable=True),
        sa.Column("query", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_refused_callbacks"),
    )


def downgrade() -> None:
    op.drop_table("refused_callbacks")
    op.drop_column("inbox", "is_stranger")
