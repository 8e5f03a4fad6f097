"""How many messages and replies each conversation has."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None
oldest_compatible = "0001"


def upgrade() -> None:
    for table in ("messages", "replies"):
        op.add_column(
            "conversation_activity", sa.Column(table, sa.Integer(), server_default=sa.text("0"), nullable=False)
        )
    op.execute("""
        UPDATE conversation_activity SET
            messages = (SELECT count(*) FROM messages WHERE messages.conversation_id = conversation_activity.id),
            replies = (SELECT count(*) FROM replies WHERE replies.conversation_id = conversation_activity.id)
    """)


def downgrade() -> None:
    for table in ("replies", "messages"):
        op.drop_column("conversation_activity", table)
