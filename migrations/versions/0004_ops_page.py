"""The ops page: its users, their sign-ins, how often sign-ins are tried, and what is searched for."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
oldest_compatible = "0001"


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name", name=op.f("uq_users_name")),
    )
    op.create_table(
        "ops_sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("secret_digest", sa.LargeBinary(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("key_digest", sa.LargeBinary(), nullable=True),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_ops_sessions_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ops_sessions")),
        sa.UniqueConstraint("secret_digest", name=op.f("uq_ops_sessions_secret_digest")),
    )
    op.create_index("ix_ops_sessions_who_id", "ops_sessions", ["who", "id"], unique=False)
    op.create_index("ix_ops_sessions_ends_at", "ops_sessions", ["ends_at"], unique=False)
    op.create_table(
        "sign_in_guesses",
        sa.Column("who_digest", sa.LargeBinary(), nullable=False),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("guesses", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("who_digest", "minute", name=op.f("pk_sign_in_guesses")),
    )
    op.create_table(
        "ops_searches",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("terms", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ops_searches")),
    )


def downgrade() -> None:
    op.drop_table("ops_searches")
    op.drop_table("sign_in_guesses")
    op.drop_table("ops_sessions")
    op.drop_table("users")
