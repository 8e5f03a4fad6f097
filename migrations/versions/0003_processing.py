"""What processing needs: callbacks of several receipts, the parking lot, audits, roll-ups, superseded transitions."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def _transitions(*, is_unique: bool = True) -> sa.Table:
    """The table before this, for SQLite, which can only drop a constraint by building the table anew."""
    words = "'accepted', 'send_unknown', 'submitted', 'sent', 'delivered', 'undelivered', 'expired', 'rejected'"
    return sa.Table(
        "transitions",
        sa.MetaData(),
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("receipt_id", sa.Uuid(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("effect", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("provider_status_id", sa.Text(), nullable=True),
        sa.Column("provider_description", sa.Text(), nullable=True),
        sa.Column("occurred_at", _TIME, nullable=True),
        sa.Column("received_at", _TIME, nullable=False),
        sa.Column("recorded_at", _TIME, nullable=False),
        sa.Column("map_version", sa.Text(), nullable=True),
        sa.CheckConstraint(
            f"status IS NULL OR status IN ({words}, 'failed', 'cancelled')", name=op.f("ck_transitions_status")
        ),
        sa.CheckConstraint(
            "effect IN ('applied', 'duplicate', 'stale', 'conflicting', 'unmapped')", name=op.f("ck_transitions_effect")
        ),
        sa.CheckConstraint("source IN ('gateway', 'ourselves')", name=op.f("ck_transitions_source")),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name="fk_transitions_message_id"),
        sa.ForeignKeyConstraint(["receipt_id"], ["inbox.id"], name="fk_transitions_receipt_id"),
        sa.PrimaryKeyConstraint("id", name="pk_transitions"),
        *[sa.UniqueConstraint("receipt_id", name="uq_transitions_receipt_id")] * is_unique,
        sa.Index("ix_transitions_message_id_id", "message_id", "id"),
    )


def upgrade() -> None:
    op.add_column("messages", sa.Column("offered_at", _TIME, nullable=True))
    origin = sa.CheckConstraint("origin IN ('own', 'external')", name=op.f("ck_messages_origin"))
    op.add_column("messages", sa.Column("origin", sa.Text(), origin, server_default="own", nullable=False))
    op.create_index("ix_messages_created_at_id", "messages", ["created_at", "id"])
    op.execute(
        "UPDATE messages SET offered_at = "
        "(SELECT min(started_at) FROM attempts WHERE attempts.message_id = messages.id)"
    )

    op.add_column("inbox", sa.Column("callback_id", sa.Uuid(), nullable=True))
    op.add_column("inbox", sa.Column("part", sa.Integer(), server_default="0", nullable=False))
    op.add_column("inbox", sa.Column("assigned_to", sa.Uuid(), nullable=True))
    rare = sa.text("outcome NOT IN ('pending', 'applied')")
    op.create_index("ix_inbox_outcome_id", "inbox", ["outcome", "id"], postgresql_where=rare, sqlite_where=rare)
    several = sa.text("callback_id IS NOT NULL")
    op.create_index(
        "uq_inbox_callback_id_part",
        "inbox",
        ["callback_id", "part"],
        unique=True,
        postgresql_where=several,
        sqlite_where=several,
    )

    with op.batch_alter_table("transitions", copy_from=_transitions()) as table:
        table.drop_constraint("uq_transitions_receipt_id", type_="unique")
        table.add_column(sa.Column("superseded_at", _TIME, nullable=True))
    standing = sa.text("superseded_at IS NULL")
    op.create_index(
        "uq_transitions_receipt_id",
        "transitions",
        ["receipt_id"],
        unique=True,
        postgresql_where=standing,
        sqlite_where=standing,
    )

    op.create_table(
        "parked",
        sa.Column("receipt_id", sa.Uuid(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("client_ref", sa.Text(), nullable=True),
        sa.Column("candidates", sa.JSON(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("look_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["receipt_id"], ["inbox.id"], name="fk_parked_receipt_id"),
        sa.PrimaryKeyConstraint("receipt_id", name="pk_parked"),
    )
    op.create_index("ix_parked_transaction_id", "parked", ["transaction_id"])
    op.create_index("ix_parked_client_ref", "parked", ["client_ref"])
    op.create_index("ix_parked_look_at", "parked", ["look_at"])
    # What stands unmatched is looked at once, at the first start after this, and parked then.
    op.execute("UPDATE inbox SET outcome = 'pending' WHERE outcome = 'unmatched'")
    op.execute(
        "UPDATE counters SET value = (SELECT coalesce(sum(value), 0) FROM counters AS every WHERE "
        "every.name IN ('pending', 'unmatched')) WHERE name = 'pending' AND slot = "
        "(SELECT min(slot) FROM counters AS every WHERE every.name = 'pending')"
    )
    op.execute(
        "UPDATE counters SET value = 0 WHERE name = 'unmatched' OR (name = 'pending' AND slot > "
        "(SELECT min(slot) FROM counters AS every WHERE every.name = 'pending'))"
    )

    op.create_table(
        "audits",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audits"),
    )
    op.create_index("ix_audits_subject_id", "audits", ["subject", "id"])

    op.create_table(
        "rollups",
        sa.Column("hour", _TIME, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("originator", sa.Text(), nullable=False),
        sa.Column("word", sa.Text(), nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "kind", "originator", "word", "slot", name="pk_rollups"),
    )


def downgrade() -> None:
    for table in ("rollups", "audits", "parked"):
        op.drop_table(table)
    op.execute("DELETE FROM transitions WHERE superseded_at IS NOT NULL")
    op.drop_index("uq_transitions_receipt_id", "transitions")
    op.drop_column("transitions", "superseded_at")
    with op.batch_alter_table("transitions", copy_from=_transitions(is_unique=False)) as transitions:
        transitions.create_unique_constraint("uq_transitions_receipt_id", ["receipt_id"])
    op.drop_index("uq_inbox_callback_id_part", "inbox")
    op.drop_index("ix_inbox_outcome_id", "inbox")
    for column in ("assigned_to", "part", "callback_id"):
        op.drop_column("inbox", column)
    op.drop_index("ix_messages_created_at_id", "messages")
    for column in ("origin", "offered_at"):
        op.drop_column("messages", column)
