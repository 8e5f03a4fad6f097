"""What finds how often the counts of an hour were changed, among many more counts."""

from alembic import op

from migrations import indexes

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    indexes.build("ix_rollups_changes", "rollups", ["hour"], "kind = 'changes'")


def downgrade() -> None:
    op.drop_index("ix_rollups_changes", "rollups")
