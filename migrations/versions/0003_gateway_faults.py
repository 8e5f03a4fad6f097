"""What a worker's calls show to be wrong with the gateway stands with its heartbeat."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
oldest_compatible = "0001"


def upgrade() -> None:
    op.add_column("heartbeats", sa.Column("gateway_fault", sa.Text(), nullable=True))
    op.add_column("heartbeats", sa.Column("gateway_fault_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("heartbeats", "gateway_fault_at")
    op.drop_column("heartbeats", "gateway_fault")
