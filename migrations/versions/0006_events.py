"""What event streams need: what each commit changed, numbered in the order of commits."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sa.UniqueConstraint("number", name="uq_events_number"),
    )
    fresh = sa.text("number IS NULL")
    op.create_index("ix_events_unnumbered", "events", ["id"], postgresql_where=fresh, sqlite_where=fresh)


def downgrade() -> None:
    op.drop_table("events")
