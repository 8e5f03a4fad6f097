"""What sending needs: a pause and a hold for every worker, halved calls, idempotency keys, suppressions."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("messages", sa.Column("call_limit", sa.Integer(), nullable=True))
    due, unclear = sa.text("due_at IS NOT NULL"), sa.text("status = 'send_unknown'")
    op.drop_index("ix_messages_due", "messages")
    op.create_index("ix_messages_due", "messages", ["due_at", "id"], postgresql_where=due, sqlite_where=due)
    op.create_index(
        "ix_messages_due_recipient_id", "messages", ["recipient", "id"], postgresql_where=due, sqlite_where=due
    )
    op.create_index(
        "ix_messages_unclear_since", "messages", ["unclear_since"], postgresql_where=unclear, sqlite_where=unclear
    )
    op.add_column("replies", sa.Column("is_opt_out", sa.Boolean(), server_default=sa.false(), nullable=False))

    op.drop_column("heartbeats", "trouble")
    sending = op.create_table(
        "sending",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("paused_at", _TIME, nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.Column("pause_reason", sa.Text(), nullable=True),
        sa.Column("refused_at", _TIME, nullable=True),
        sa.Column("probe_at", _TIME, nullable=True),
        sa.Column("probe_gap_seconds", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_free_at", _TIME, nullable=True),
        sa.CheckConstraint("id = 1", name=op.f("ck_sending_id")),
        sa.PrimaryKeyConstraint("id", name="pk_sending"),
    )
    op.bulk_insert(sending, [{"id": 1}])

    op.create_table(
        "idempotency_keys",
        sa.Column("api_key", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("begun_at", _TIME, nullable=False),
        sa.Column("message_ids", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("api_key", "key", name="pk_idempotency_keys"),
    )
    op.create_table(
        "suppressions",
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("originator", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("reply_id", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("recipient", "originator", name="pk_suppressions"),
    )


def downgrade() -> None:
    op.add_column("heartbeats", sa.Column("trouble", sa.Text(), nullable=True))
    for table in ("suppressions", "idempotency_keys", "sending"):
        op.drop_table(table)
    op.drop_column("replies", "is_opt_out")
    op.drop_index("ix_messages_unclear_since", "messages")
    op.drop_index("ix_messages_due_recipient_id", "messages")
    op.drop_index("ix_messages_due", "messages")
    due = sa.text("due_at IS NOT NULL")
    op.create_index("ix_messages_due", "messages", ["due_at"], postgresql_where=due, sqlite_where=due)
    op.drop_column("messages", "call_limit")
