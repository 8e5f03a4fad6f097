"""What finds messages that wait for their final report by age: by their acceptance, or by their deliverAfter."""

from alembic import op

from migrations import indexes

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_OPEN = "status IN ('accepted', 'send_unknown', 'submitted', 'sent')"
_PARTS = {"created_at": f"{_OPEN} AND deliver_after IS NULL", "deliver_after": f"{_OPEN} AND deliver_after IS NOT NULL"}


def upgrade() -> None:
    for column, condition in _PARTS.items():
        indexes.build(f"ix_messages_open_{column}", "messages", ["status", column, "id"], condition)


def downgrade() -> None:
    for column in _PARTS:
        op.drop_index(f"ix_messages_open_{column}", "messages")
