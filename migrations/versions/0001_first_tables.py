"""The first tables: messages, attempts, transactionIDs, the inbox, transitions, replies, counters, heartbeats."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "slot", name="pk_counters"),
    )
    op.create_table(
        "heartbeats",
        sa.Column("process", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("trouble", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("process", name="pk_heartbeats"),
    )
    op.create_table(
        "inbox",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("query", sa.LargeBinary(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("channel IN ('message', 'account', 'inbound')", name="ck_inbox_channel"),
        sa.CheckConstraint(
            "outcome IN ('pending', 'applied', 'duplicate', 'stale', 'conflicting', 'unmapped', 'unmatched', "
            "'quarantined', 'dead', 'dismissed')",
            name="ck_inbox_outcome",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_inbox"),
    )
    op.create_index(
        "ix_inbox_pending",
        "inbox",
        ["next_at", "id"],
        unique=False,
        postgresql_where=sa.text("outcome = 'pending'"),
        sqlite_where=sa.text("outcome = 'pending'"),
    )
    op.create_table(
        "messages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("conflict", sa.Boolean(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("originator", sa.Text(), nullable=True),
        sa.Column("client_ref", sa.Text(), nullable=True),
        sa.Column("country_iso_code", sa.Text(), nullable=True),
        sa.Column("deliver_after", sa.DateTime(timezone=True), nullable=True),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reject_unicode", sa.Boolean(), nullable=False),
        sa.Column("include_message_text", sa.Boolean(), nullable=False),
        sa.Column("filter_set_name", sa.Text(), nullable=True),
        sa.Column("impersonate_user_name", sa.Text(), nullable=True),
        sa.Column("additional_options", sa.JSON(), nullable=False),
        sa.Column("message_guid", sa.Text(), nullable=False),
        sa.Column("transport", sa.Text(), nullable=False),
        sa.Column("encoding", sa.Text(), nullable=False),
        sa.Column("segments", sa.Integer(), nullable=False),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("calling_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("unclear_since", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('accepted', 'send_unknown', 'submitted', 'sent', 'delivered', 'undelivered', 'expired', "
            "'rejected', 'failed', 'cancelled')",
            name="ck_messages_status",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_messages"),
        sa.UniqueConstraint("message_guid", name="uq_messages_message_guid"),
    )
    op.create_index("ix_messages_client_ref_id", "messages", ["client_ref", "id"], unique=False)
    op.create_index("ix_messages_conversation_id_id", "messages", ["conversation_id", "id"], unique=False)
    op.create_index(
        "ix_messages_due",
        "messages",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
        sqlite_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("ix_messages_recipient_id", "messages", ["recipient", "id"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("transport", sa.Text(), nullable=False),
        sa.Column("message_guid", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("return_code", sa.Text(), nullable=True),
        sa.Column("return_description", sa.Text(), nullable=True),
        sa.Column("return_detail", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "outcome IS NULL OR outcome IN ('taken', 'refused', 'not_sent', 'unclear', 'account_refused')",
            name="ck_attempts_outcome",
        ),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name="fk_attempts_message_id"),
        sa.PrimaryKeyConstraint("message_id", "number", name="pk_attempts"),
    )
    op.create_table(
        "message_transactions",
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("source IN ('answer', 'receipt')", name="ck_message_transactions_source"),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name="fk_message_transactions_message_id"),
        sa.PrimaryKeyConstraint("message_id", "transaction_id", name="pk_message_transactions"),
    )
    op.create_index(
        "ix_message_transactions_transaction_id_recipient",
        "message_transactions",
        ["transaction_id", "recipient"],
        unique=False,
    )
    op.create_table(
        "replies",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("receipt_id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        sa.Column("link", sa.Text(), nullable=False),
        sa.Column("msgid", sa.Text(), nullable=True),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("client_ref", sa.Text(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fingerprint", sa.Uuid(), nullable=False),
        sa.Column("is_conflicting", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name="fk_replies_message_id"),
        sa.ForeignKeyConstraint(["receipt_id"], ["inbox.id"], name="fk_replies_receipt_id"),
        sa.PrimaryKeyConstraint("id", name="pk_replies"),
        sa.UniqueConstraint("fingerprint", name="uq_replies_fingerprint"),
        sa.UniqueConstraint("receipt_id", name="uq_replies_receipt_id"),
    )
    op.create_index("ix_replies_conversation_id_id", "replies", ["conversation_id", "id"], unique=False)
    op.create_index("ix_replies_msgid", "replies", ["msgid"], unique=False)
    op.create_table(
        "transitions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("receipt_id", sa.Uuid(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("effect", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("provider_status_id", sa.Text(), nullable=True),
        sa.Column("provider_description", sa.Text(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("map_version", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "effect IN ('applied', 'duplicate', 'stale', 'conflicting', 'unmapped')", name="ck_transitions_effect"
        ),
        sa.CheckConstraint("source IN ('gateway', 'ourselves')", name="ck_transitions_source"),
        sa.CheckConstraint(
            "status IS NULL OR status IN ('accepted', 'send_unknown', 'submitted', 'sent', 'delivered', 'undelivered', "
            "'expired', 'rejected', 'failed', 'cancelled')",
            name="ck_transitions_status",
        ),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name="fk_transitions_message_id"),
        sa.ForeignKeyConstraint(["receipt_id"], ["inbox.id"], name="fk_transitions_receipt_id"),
        sa.PrimaryKeyConstraint("id", name="pk_transitions"),
        sa.UniqueConstraint("receipt_id", name="uq_transitions_receipt_id"),
    )
    op.create_index("ix_transitions_message_id_id", "transitions", ["message_id", "id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_transitions_message_id_id", table_name="transitions")
    op.drop_table("transitions")
    op.drop_index("ix_replies_msgid", table_name="replies")
    op.drop_index("ix_replies_conversation_id_id", table_name="replies")
    op.drop_table("replies")
    op.drop_index("ix_message_transactions_transaction_id_recipient", table_name="message_transactions")
    op.drop_table("message_transactions")
    op.drop_table("attempts")
    op.drop_index("ix_messages_recipient_id", table_name="messages")
    op.drop_index(
        "ix_messages_due",
        table_name="messages",
        postgresql_where=sa.text("due_at IS NOT NULL"),
        sqlite_where=sa.text("due_at IS NOT NULL"),
    )
    op.drop_index("ix_messages_conversation_id_id", table_name="messages")
    op.drop_index("ix_messages_client_ref_id", table_name="messages")
    op.drop_table("messages")
    op.drop_index(
        "ix_inbox_pending",
        table_name="inbox",
        postgresql_where=sa.text("outcome = 'pending'"),
        sqlite_where=sa.text("outcome = 'pending'"),
    )
    op.drop_table("inbox")
    op.drop_table("heartbeats")
    op.drop_table("counters")
