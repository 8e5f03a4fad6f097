"""The audit is listed by time: of all, and of one subject."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
oldest_compatible = "0001"


def upgrade() -> None:
    op.create_index("ix_audits_at_id", "audits", ["at", "id"], unique=False)
    op.create_index("ix_audits_subject_at_id", "audits", ["subject", "at", "id"], unique=False)
    op.drop_index("ix_audits_subject_id", "audits")


def downgrade() -> None:
    op.create_index("ix_audits_subject_id", "audits", ["subject", "id"], unique=False)
    op.drop_index("ix_audits_subject_at_id", "audits")
    op.drop_index("ix_audits_at_id", "audits")
