"""What receipts name that were not simply recorded, and the kid of a wrong key."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
oldest_compatible = "0001"

_TABLE = "receipt_references"
_INDEXED = (
    *("recipient", "recipient_end", "transaction_id", "client_ref"),
    *("provider_status_id", "description_key", "kid"),
)


def upgrade() -> None:
    op.add_column("inbox", sa.Column("kid", sa.Text(), nullable=True))
    op.create_table(
        _TABLE,
        sa.Column("receipt_id", sa.Uuid(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=True),
        sa.Column("recipient_end", sa.Text(), nullable=True),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("client_ref", sa.Text(), nullable=True),
        sa.Column("provider_status_id", sa.Text(), nullable=True),
        sa.Column("provider_description", sa.Text(), nullable=True),
        sa.Column("description_key", sa.Text(), nullable=True),
        sa.Column("kid", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("receipt_id", name=op.f("pk_receipt_references")),
    )
    for name in _INDEXED:
        op.create_index(f"ix_receipt_references_{name}_receipt_id", _TABLE, [name, "receipt_id"], unique=False)


def downgrade() -> None:
    op.drop_table(_TABLE)
    op.drop_column("inbox", "kid")
