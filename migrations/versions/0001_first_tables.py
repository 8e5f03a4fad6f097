"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
oldest_compatible = "0001"

# As SQLite orders text, and makes it lower case: so one index finds a clientRef and all that begin so.
_BY_CODE_POINTS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

_OUTCOMES = (
    "'pending', 'applied', 'duplicate', 'stale', 'conflicting', "
    "'unmapped', 'unmatched', 'quarantined', 'dead', 'dismissed'"
)
# Whatever its size: its rows live for moments.
_OFTEN_VACUUMED = {
    "autovacuum_vacuum_threshold": "5000",
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_cost_delay": "0",
    "autovacuum_analyze_threshold": "50000",
    "autovacuum_analyze_scale_factor": "0",
}
_STATUSES = (
    "'accepted', 'send_unknown', 'submitted', 'sent', 'delivered', "
    "'undelivered', 'expired', 'rejected', 'failed', 'cancelled'"
)
_OPEN = "status IN ('accepted', 'send_unknown', 'submitted', 'sent')"
_SEND_OUTCOMES = "'taken', 'refused', 'not_sent', 'unclear', 'account_refused', 'suspect_refused', 'suspect_unclear'"


def upgrade() -> None:  # noqa: PLR0915 - a statement a table and an index
    op.create_table(
        "audits",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audits")),
    )
    op.create_index("ix_audits_subject_id", "audits", ["subject", "id"], unique=False)
    op.create_table(
        "conversation_activity",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_from_recipient", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversation_activity")),
    )
    op.create_index("ix_conversation_activity_last_at_id", "conversation_activity", ["last_at", "id"], unique=False)
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "slot", name=op.f("pk_counters")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("number", name=op.f("uq_events_number")),
    )
    op.create_index(
        "ix_events_unnumbered",
        "events",
        ["id"],
        unique=False,
        postgresql_where=sa.text("number IS NULL"),
        sqlite_where=sa.text("number IS NULL"),
    )
    op.create_table(
        "heartbeats",
        sa.Column("process", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("clock_ahead_seconds", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("process", name=op.f("pk_heartbeats")),
    )
    op.create_table(
        "hourly_counts",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("originator", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "kind", "originator", "label", "slot", name=op.f("pk_hourly_counts")),
    )
    op.create_index(
        "ix_hourly_counts_changes",
        "hourly_counts",
        ["hour"],
        unique=False,
        postgresql_where=sa.text("kind = 'changes'"),
        sqlite_where=sa.text("kind = 'changes'"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("api_key", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("message_ids", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("api_key", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "inbox",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        sa.Column("claimed_kid", sa.Text(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("query", sa.LargeBinary(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=True),
        sa.Column("content_encoding", sa.Text(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("callback_id", sa.Uuid(), nullable=True),
        sa.Column("part", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint("channel IN ('message', 'account', 'inbound')", name=op.f("ck_inbox_channel")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbox")),
        postgresql_partition_by="RANGE (id)",
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE TABLE inbox_default PARTITION OF inbox DEFAULT")  # `env.py` has the other slices made
    op.create_index(
        "ix_inbox_channel_id",
        "inbox",
        ["channel", "id"],
        unique=False,
        postgresql_where=sa.text("channel <> 'message'"),
        sqlite_where=sa.text("channel <> 'message'"),
    )
    op.create_table(
        "messages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), server_default="own", nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("conflict", sa.Boolean(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("originator", sa.Text(), nullable=True),
        sa.Column("client_ref", _BY_CODE_POINTS, nullable=True),
        sa.Column("country_iso_code", sa.Text(), nullable=True),
        sa.Column("deliver_after", sa.DateTime(timezone=True), nullable=True),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reject_unicode", sa.Boolean(), nullable=False),
        sa.Column("include_message_text", sa.Boolean(), nullable=False),
        sa.Column("filter_set_name", sa.Text(), nullable=True),
        sa.Column("impersonate_user_name", sa.Text(), nullable=True),
        sa.Column("additional_options", sa.JSON(), nullable=False),
        sa.Column("message_guid", _BY_CODE_POINTS, nullable=False),
        sa.Column("transport", sa.Text(), nullable=False),
        sa.Column("encoding", sa.Text(), nullable=False),
        sa.Column("segments", sa.Integer(), nullable=False),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("calling_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("offered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("unclear_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("suspicion", sa.BigInteger(), nullable=True),
        sa.Column("standing", sa.LargeBinary(), nullable=False),
        sa.Column("transition_count", sa.Integer(), nullable=False),
        sa.Column("call_limit", sa.Integer(), nullable=True),
        sa.CheckConstraint("origin IN ('own', 'external')", name=op.f("ck_messages_origin")),
        sa.CheckConstraint(
            f"status IN ({_STATUSES})",
            name=op.f("ck_messages_status"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
    )
    op.create_index(
        "ix_messages_account_due_at_id",
        "messages",
        [sa.literal_column("coalesce(impersonate_user_name, '')"), "due_at", "id"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
        sqlite_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("ix_messages_changed_at_id", "messages", ["changed_at", "id"], unique=False)
    op.create_index(
        "ix_messages_client_ref_created_at_id",
        "messages",
        ["client_ref", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("client_ref IS NOT NULL"),
        sqlite_where=sa.text("client_ref IS NOT NULL"),
    )
    op.create_index(
        "ix_messages_conversation_id_status_created_at_id",
        "messages",
        ["conversation_id", "status", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        "ix_messages_due",
        "messages",
        ["due_at", "id"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
        sqlite_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_messages_due_recipient_id",
        "messages",
        ["recipient", "id"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
        sqlite_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("ix_messages_message_guid", "messages", [sa.literal_column("lower(message_guid)")], unique=True)
    op.create_index(
        "ix_messages_open_created_at",
        "messages",
        ["status", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text(f"{_OPEN} AND deliver_after IS NULL"),
        sqlite_where=sa.text(f"{_OPEN} AND deliver_after IS NULL"),
    )
    op.create_index(
        "ix_messages_open_deliver_after",
        "messages",
        ["status", "deliver_after", "id"],
        unique=False,
        postgresql_where=sa.text(f"{_OPEN} AND deliver_after IS NOT NULL"),
        sqlite_where=sa.text(f"{_OPEN} AND deliver_after IS NOT NULL"),
    )
    op.create_index(
        "ix_messages_originator_status_created_at_id",
        "messages",
        ["originator", "status", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("originator IS NOT NULL"),
        sqlite_where=sa.text("originator IS NOT NULL"),
    )
    op.create_index("ix_messages_recipient_created_at_id", "messages", ["recipient", "created_at", "id"], unique=False)
    op.create_index(
        "ix_messages_recipient_end_created_at_id",
        "messages",
        [sa.literal_column("substr(recipient, length(recipient) - 3)"), "created_at", "id"],
        unique=False,
    )
    op.create_index("ix_messages_status_created_at_id", "messages", ["status", "created_at", "id"], unique=False)
    op.create_index(
        "ix_messages_suspicion",
        "messages",
        ["suspicion"],
        unique=False,
        postgresql_where=sa.text("suspicion > 0"),
        sqlite_where=sa.text("suspicion > 0"),
    )
    op.create_index(
        "ix_messages_unclear_since",
        "messages",
        ["unclear_since"],
        unique=False,
        postgresql_where=sa.text("status = 'send_unknown'"),
        sqlite_where=sa.text("status = 'send_unknown'"),
    )
    op.create_table(
        "pending",
        sa.Column("receipt_id", sa.Uuid(), nullable=False),
        sa.Column("group_id", sa.Uuid(), nullable=True),
        sa.Column("is_large", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("assigned_to", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("receipt_id", name=op.f("pk_pending")),
        postgresql_with=_OFTEN_VACUUMED,
    )
    op.create_index(
        "ix_pending_large",
        "pending",
        ["receipt_id"],
        unique=False,
        postgresql_where=sa.text("is_large"),
        sqlite_where=sa.text("is_large"),
    )
    op.create_index(
        "ix_pending_next_at_receipt_id",
        "pending",
        ["next_at", "receipt_id"],
        unique=False,
        postgresql_where=sa.text("next_at IS NOT NULL"),
        sqlite_where=sa.text("next_at IS NOT NULL"),
    )
    op.create_table(
        "rejected_callbacks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("kid", sa.Text(), nullable=True),
        sa.Column("query", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rejected_callbacks")),
    )
    op.create_table(
        "schema_compatibility",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("oldest_revision", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_schema_compatibility_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schema_compatibility")),
    )
    send_gate = op.create_table(
        "send_gate",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.Column("pause_reason", sa.Text(), nullable=True),
        sa.Column("refused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("probe_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("probe_gap_seconds", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_free_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("suspicions", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_send_gate_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_send_gate")),
    )
    op.bulk_insert(send_gate, [{"id": 1}])
    op.create_table(
        "sending_accounts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("since_number", sa.BigInteger(), nullable=False),
        sa.Column("works_number", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("suspected_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("try_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("try_gap_seconds", sa.Integer(), server_default="0", nullable=False),
        sa.Column("refused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refuses_calls", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("probe_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("probe_gap_seconds", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sending_accounts")),
    )
    op.create_table(
        "suppressions",
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("originator", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("reply_id", sa.Uuid(), nullable=True),
        sa.Column("scheduled_ids", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("recipient", "originator", name=op.f("pk_suppressions")),
    )
    op.create_index("ix_suppressions_originator_recipient", "suppressions", ["originator", "recipient"], unique=False)
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
            f"outcome IS NULL OR outcome IN ({_SEND_OUTCOMES})",
            name=op.f("ck_attempts_outcome"),
        ),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_attempts_message_id")),
        sa.PrimaryKeyConstraint("message_id", "number", name=op.f("pk_attempts")),
    )
    op.create_table(
        "message_transactions",
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("source IN ('answer', 'receipt')", name=op.f("ck_message_transactions_source")),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_message_transactions_message_id")),
        sa.PrimaryKeyConstraint("message_id", "transaction_id", name=op.f("pk_message_transactions")),
    )
    op.create_index(
        "ix_message_transactions_transaction_id_recipient",
        "message_transactions",
        ["transaction_id", "recipient"],
        unique=False,
    )
    op.create_table(
        "outcomes",
        sa.Column("receipt_id", sa.Uuid(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("assigned_to", sa.Uuid(), nullable=True),
        sa.CheckConstraint(f"outcome IN ({_OUTCOMES})", name=op.f("ck_outcomes_outcome")),
        sa.PrimaryKeyConstraint("receipt_id", name=op.f("pk_outcomes")),
    )
    op.create_index("ix_outcomes_outcome_receipt_id", "outcomes", ["outcome", "receipt_id"], unique=False)
    op.create_table(
        "parked",
        sa.Column("receipt_id", sa.Uuid(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("client_ref", sa.Text(), nullable=True),
        sa.Column("candidates", sa.JSON(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("look_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("receipt_id", name=op.f("pk_parked")),
    )
    op.create_index("ix_parked_client_ref", "parked", ["client_ref"], unique=False)
    op.create_index("ix_parked_look_at", "parked", ["look_at"], unique=False)
    op.create_index("ix_parked_transaction_id", "parked", ["transaction_id"], unique=False)
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
        sa.Column("is_opt_out", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("is_opt_in", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_replies_message_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replies")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_replies_fingerprint")),
        sa.UniqueConstraint("receipt_id", name=op.f("uq_replies_receipt_id")),
    )
    op.create_index(
        "ix_replies_conversation_id_received_at_id", "replies", ["conversation_id", "received_at", "id"], unique=False
    )
    op.create_index(
        "ix_replies_is_opt_out_received_at_id", "replies", ["is_opt_out", "received_at", "id"], unique=False
    )
    op.create_index("ix_replies_msgid", "replies", ["msgid"], unique=False)
    op.create_index("ix_replies_recipient_received_at_id", "replies", ["recipient", "received_at", "id"], unique=False)
    op.create_index("ix_replies_sender_received_at_id", "replies", ["sender", "received_at", "id"], unique=False)
    op.create_index(
        "ix_replies_words",
        "replies",
        ["sender"],
        unique=False,
        postgresql_where=sa.text("is_opt_out OR is_opt_in"),
        sqlite_where=sa.text("is_opt_out OR is_opt_in"),
    )
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
        sa.Column("superseded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("content_digest", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint(
            "effect IN ('applied', 'duplicate', 'stale', 'conflicting', 'unmapped')", name=op.f("ck_transitions_effect")
        ),
        sa.CheckConstraint("source IN ('gateway', 'ourselves')", name=op.f("ck_transitions_source")),
        sa.CheckConstraint(
            f"status IS NULL OR status IN ({_STATUSES})",
            name=op.f("ck_transitions_status"),
        ),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_transitions_message_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transitions")),
    )
    op.create_index(
        "ix_transitions_effect_receipt_id",
        "transitions",
        ["effect", "receipt_id"],
        unique=False,
        postgresql_where=sa.text("effect <> 'applied' AND receipt_id IS NOT NULL AND superseded_at IS NULL"),
        sqlite_where=sa.text("effect <> 'applied' AND receipt_id IS NOT NULL AND superseded_at IS NULL"),
    )
    op.create_index(
        "ix_transitions_message_id_content_digest",
        "transitions",
        ["message_id", "content_digest"],
        unique=False,
        postgresql_where=sa.text("content_digest IS NOT NULL"),
        sqlite_where=sa.text("content_digest IS NOT NULL"),
    )
    op.create_index("ix_transitions_message_id_id", "transitions", ["message_id", "id"], unique=False)
    op.create_index(
        "uq_transitions_receipt_id",
        "transitions",
        ["receipt_id"],
        unique=True,
        postgresql_where=sa.text("superseded_at IS NULL"),
        sqlite_where=sa.text("superseded_at IS NULL"),
    )


def downgrade() -> None:
    for table in (
        "transitions",
        "replies",
        "parked",
        "outcomes",
        "message_transactions",
        "attempts",
        "suppressions",
        "sending_accounts",
        "send_gate",
        "schema_compatibility",
        "rejected_callbacks",
        "pending",
        "messages",
        "inbox",
        "idempotency_keys",
        "hourly_counts",
        "heartbeats",
        "events",
        "counters",
        "conversation_activity",
        "audits",
    ):
        op.drop_table(table)
