"""What questions need: when a conversation was last active, when a message last changed, and an index for each list.

An index has what is asked for first and the list's order after it, so that a page is read where it stands.
"""

import sqlalchemy as sa
from alembic import op

from migrations import indexes

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_RECIPIENT_END = "substr(recipient, length(recipient) - 3)"

# By name: table, columns, and which rows are in it.
_INDEXES: dict[str, tuple[str, list[str], str | None]] = {
    "ix_messages_status_created_at_id": ("messages", ["status", "created_at", "id"], None),
    "ix_messages_originator_status_created_at_id": (
        "messages",
        ["originator", "status", "created_at", "id"],
        "originator IS NOT NULL",
    ),
    "ix_messages_conversation_id_status_created_at_id": (
        "messages",
        ["conversation_id", "status", "created_at", "id"],
        None,
    ),
    "ix_messages_client_ref_created_at_id": (
        "messages",
        ["client_ref", "created_at", "id"],
        "client_ref IS NOT NULL",
    ),
    "ix_messages_recipient_created_at_id": ("messages", ["recipient", "created_at", "id"], None),
    "ix_messages_recipient_end_created_at_id": ("messages", [_RECIPIENT_END, "created_at", "id"], None),
    "ix_messages_changed_at_id": ("messages", ["changed_at", "id"], None),
    "ix_replies_is_opt_out_received_at_id": ("replies", ["is_opt_out", "received_at", "id"], None),
    "ix_replies_conversation_id_received_at_id": ("replies", ["conversation_id", "received_at", "id"], None),
    "ix_replies_sender_received_at_id": ("replies", ["sender", "received_at", "id"], None),
    "ix_replies_recipient_received_at_id": ("replies", ["recipient", "received_at", "id"], None),
    "ix_inbox_channel_id": ("inbox", ["channel", "id"], "channel <> 'message'"),
    "ix_suppressions_originator_recipient": ("suppressions", ["originator", "recipient"], None),
}
_BY_CLIENT_REF = "ix_messages_client_ref_id"
_REPLACED = {
    "ix_messages_conversation_id_id": ("messages", ["conversation_id", "id"]),
    _BY_CLIENT_REF: ("messages", ["client_ref", "id"]),
    "ix_messages_recipient_id": ("messages", ["recipient", "id"]),
    "ix_messages_created_at_id": ("messages", ["created_at", "id"]),
    "ix_replies_conversation_id_id": ("replies", ["conversation_id", "id"]),
}


def upgrade() -> None:
    # A constant, which makes PostgreSQL write no row anew: what was there before counts as changed before all else.
    before = "1970-01-01 00:00:00.000000"
    changed_at = sa.Column("changed_at", _TIME, server_default=before, nullable=False)
    op.add_column("messages", changed_at, if_not_exists=indexes.on_postgresql())
    indexes.drop(_BY_CLIENT_REF, "messages")  # at first: it would be built anew under the lock of the next step
    if indexes.on_postgresql():
        # What the previous release accepts, until it is stopped, changes when it does so.
        op.alter_column("messages", "changed_at", server_default=sa.func.now())
        if not _is_by_code_points():
            op.execute('ALTER TABLE messages ALTER COLUMN client_ref TYPE text COLLATE "C"')
    for name, (table, columns, where) in _INDEXES.items():
        indexes.build(name, table, columns, where)
    for name, (table, _) in _REPLACED.items():
        if name != _BY_CLIENT_REF:
            indexes.drop(name, table)

    # As the store writes them from now on: without a leading plus.
    op.execute("UPDATE replies SET recipient = ltrim(recipient, '+') WHERE recipient LIKE '+%'")
    op.create_table(
        "conversations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("first_at", _TIME, nullable=False),
        sa.Column("last_at", _TIME, nullable=False),
        sa.Column("is_answered", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_conversations"),
    )
    op.execute("""
        INSERT INTO conversations (id, first_at, last_at, is_answered)
        SELECT conversation_id, min(first_at), max(last_at),
            coalesce(max(CASE WHEN is_reply = 1 THEN last_at END), min(first_at))
            > coalesce(max(CASE WHEN is_reply = 0 THEN last_at END), min(first_at))
            OR min(is_reply) = 1
        FROM (
            SELECT conversation_id, min(created_at) AS first_at, max(created_at) AS last_at, 0 AS is_reply
            FROM messages GROUP BY conversation_id
            UNION ALL
            SELECT conversation_id, min(received_at), max(received_at), 1 FROM replies GROUP BY conversation_id
        ) AS spoken GROUP BY conversation_id
    """)
    op.create_index("ix_conversations_last_at_id", "conversations", ["last_at", "id"])


def _is_by_code_points() -> bool:
    """Whether clientRefs are ordered as on SQLite: so one index finds a clientRef and all that begin so."""
    asked = sa.text("""
        SELECT collname = 'C' FROM pg_attribute JOIN pg_collation ON pg_collation.oid = attcollation
        WHERE attrelid = to_regclass('messages') AND attname = 'client_ref'
    """)
    return bool(op.get_bind().scalar(asked))


def downgrade() -> None:
    op.drop_table("conversations")
    for name, (table, _, _) in _INDEXES.items():
        op.drop_index(name, table)
    if op.get_context().dialect.name == "postgresql":
        op.execute('ALTER TABLE messages ALTER COLUMN client_ref TYPE text COLLATE "default"')
    for name, (table, columns) in _REPLACED.items():
        op.create_index(name, table, columns)
    op.drop_column("messages", "changed_at")
