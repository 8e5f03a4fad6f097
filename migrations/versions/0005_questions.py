"""What questions need: when a conversation was last active, when a message last changed, and an index for each list.

An index has what is asked for first and the list's order after it, so that a page is read where it stands.
"""

import sqlalchemy as sa
from alembic import op

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
_REPLACED = {
    "ix_messages_conversation_id_id": ("messages", ["conversation_id", "id"]),
    "ix_messages_client_ref_id": ("messages", ["client_ref", "id"]),
    "ix_messages_recipient_id": ("messages", ["recipient", "id"]),
    "ix_messages_created_at_id": ("messages", ["created_at", "id"]),
    "ix_replies_conversation_id_id": ("replies", ["conversation_id", "id"]),
}


def upgrade() -> None:
    # A constant, which makes PostgreSQL write no row anew: what was there before counts as changed before all else.
    before = "1970-01-01 00:00:00.000000"
    op.add_column("messages", sa.Column("changed_at", _TIME, server_default=before, nullable=False))
    for name, (table, _) in _REPLACED.items():
        op.drop_index(name, table)
    if op.get_context().dialect.name == "postgresql":
        # By code points, as SQLite has it: so one index finds a clientRef and all that begin so.
        op.execute('ALTER TABLE messages ALTER COLUMN client_ref TYPE text COLLATE "C"')
    for name, (table, columns, where) in _INDEXES.items():
        condition = sa.text(where) if where else None
        op.create_index(
            name,
            table,
            [sa.text(column) if "(" in column else column for column in columns],
            postgresql_where=condition,
            sqlite_where=condition,
        )

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


def downgrade() -> None:
    op.drop_table("conversations")
    for name, (table, _, _) in _INDEXES.items():
        op.drop_index(name, table)
    if op.get_context().dialect.name == "postgresql":
        op.execute('ALTER TABLE messages ALTER COLUMN client_ref TYPE text COLLATE "default"')
    for name, (table, columns) in _REPLACED.items():
        op.create_index(name, table, columns)
    op.drop_column("messages", "changed_at")
