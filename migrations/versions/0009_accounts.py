"""Accounts that are refused or may be, each by itself, and the messages that wait until that is decided."""

import sqlalchemy as sa
from alembic import op

from migrations import indexes

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_BEFORE = ("taken", "refused", "not_sent", "unclear", "account_refused")
_AFTER = (*_BEFORE, "suspect_refused", "suspect_unclear")
_ACCOUNT = "(coalesce(impersonate_user_name, ''))"


def upgrade() -> None:
    _let_outcomes_be(_AFTER, _BEFORE)
    if "sending_accounts" not in sa.inspect(op.get_bind()).get_table_names():  # else it broke off at an index
        op.add_column("sending", sa.Column("suspicions", sa.BigInteger(), server_default="0", nullable=False))
        op.add_column("messages", sa.Column("suspicion", sa.BigInteger(), nullable=True))
        op.create_table(
            "sending_accounts",
            sa.Column("name", sa.Text(), nullable=False),
            sa.Column("since_number", sa.BigInteger(), nullable=False),
            sa.Column("works_number", sa.BigInteger(), server_default="0", nullable=False),
            sa.Column("suspected_at", _TIME, nullable=True),
            sa.Column("try_at", _TIME, nullable=True),
            sa.Column("try_gap_seconds", sa.Integer(), server_default="0", nullable=False),
            sa.Column("refused_at", _TIME, nullable=True),
            sa.Column("refuses_calls", sa.Boolean(), server_default=sa.false(), nullable=False),
            sa.Column("probe_at", _TIME, nullable=True),
            sa.Column("probe_gap_seconds", sa.Integer(), server_default="0", nullable=False),
            sa.PrimaryKeyConstraint("name", name="pk_sending_accounts"),
        )
    indexes.build("ix_messages_suspicion", "messages", ["suspicion"], "suspicion > 0")
    indexes.build("ix_messages_account_due_at_id", "messages", [_ACCOUNT, "due_at", "id"], "due_at IS NOT NULL")


def downgrade() -> None:
    op.drop_index("ix_messages_account_due_at_id", "messages")
    op.drop_index("ix_messages_suspicion", "messages")
    op.drop_table("sending_accounts")
    op.drop_column("messages", "suspicion")
    op.drop_column("sending", "suspicions")
    words = {"suspect_refused": "refused", "suspect_unclear": "unclear"}
    for word, other in words.items():
        op.execute(f"UPDATE attempts SET outcome = '{other}' WHERE outcome = '{word}'")  # noqa: S608 - our own words
    _let_outcomes_be(_BEFORE, _AFTER)


def _let_outcomes_be(words: tuple[str, ...], before: tuple[str, ...]) -> None:
    """Which outcomes an attempt may have."""
    if indexes.on_postgresql():
        for name in ("ck_attempts_outcome", "ck_attempts_ck_attempts_outcome"):  # the second is 0001's
            op.execute(f"ALTER TABLE attempts DROP CONSTRAINT IF EXISTS {name}")
        op.execute(f"ALTER TABLE attempts ADD CONSTRAINT ck_attempts_outcome CHECK ({_among(words)}) NOT VALID")
        with op.get_context().autocommit_block():  # the rows there are, however many, are looked at beside the writers
            op.execute("ALTER TABLE attempts VALIDATE CONSTRAINT ck_attempts_outcome")
        return
    with op.batch_alter_table("attempts", copy_from=_attempts(before)) as attempts:
        attempts.drop_constraint(op.f("ck_attempts_outcome"), type_="check")
        attempts.create_check_constraint(op.f("ck_attempts_outcome"), _among(words))


def _among(words: tuple[str, ...]) -> str:
    return f"outcome IS NULL OR outcome IN ({', '.join(map(repr, words))})"


def _attempts(words: tuple[str, ...]) -> sa.Table:
    """The table as it stands."""
    return sa.Table(
        "attempts",
        sa.MetaData(),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("transport", sa.Text(), nullable=False),
        sa.Column("message_guid", sa.Text(), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("return_code", sa.Text(), nullable=True),
        sa.Column("return_description", sa.Text(), nullable=True),
        sa.Column("return_detail", sa.Text(), nullable=True),
        sa.CheckConstraint(_among(words), name=op.f("ck_attempts_outcome")),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_attempts_message_id")),
        sa.PrimaryKeyConstraint("message_id", "number", name=op.f("pk_attempts")),
    )
