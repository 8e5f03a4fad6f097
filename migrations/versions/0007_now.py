"""What the first page of /ops shows: releases of processes, the counts at each minute, the end of the last `verify`."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
oldest_compatible = "0001"


def upgrade() -> None:
    op.add_column("heartbeats", sa.Column("version", sa.Text(), nullable=True))
    op.create_table(
        "minutes",
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("totals", sa.JSON(), nullable=False),
        sa.Column("reports", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("minute", name=op.f("pk_minutes")),
    )
    op.create_table(
        "last_verification",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("faults", sa.Integer(), nullable=False),
        sa.Column("receipts", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_last_verification_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_last_verification")),
    )


def downgrade() -> None:
    op.drop_table("last_verification")
    op.drop_table("minutes")
    op.drop_column("heartbeats", "version")
