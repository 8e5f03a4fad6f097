"""Runs in the tree that is measured, by that tree's code: accepts messages and tells their callback paths.

A line on standard input is a count; the answer is as many lines of `<message's id> <path>`. The messages are never due,
as if they had been sent already. This is all that the benchmark needs of a measured tree's modules: keep it so.
"""

import os
import sys

from sqlalchemy import text

from receiptsvc import tokens
from receiptsvc.config import Settings
from receiptsvc.domain.messages import NewMessage
from receiptsvc.store.core.db import Database
from receiptsvc.store.messages import transitions
from tests.support import rows

_BATCH_SIZE = 1000
_FIRST_NUMBER = 447700000000


def main() -> None:
    """Answer one line after another."""
    settings = Settings.from_env(os.environ)
    database = Database(os.environ["DATABASE_URL"])
    made = 0
    for line in sys.stdin:
        count = int(line)
        while count > 0:
            batch = [_make_message(made + offset) for offset in range(min(_BATCH_SIZE, count))]
            made, count = made + len(batch), count - len(batch)
            with database.transaction() as session:  # one commit, or the worker would begin to send them
                transitions.accept(session, batch, rows.T0)
                session.execute(text("UPDATE messages SET due_at = NULL WHERE due_at IS NOT NULL"))
            sys.stdout.writelines(_write_line(settings, message) for message in batch)
        sys.stdout.write("\n")
        sys.stdout.flush()
    database.close()


def _make_message(number: int) -> NewMessage:
    return rows.message(str(_FIRST_NUMBER + number), "Your order is on its way.", client_ref=f"order-{number}")


def _write_line(settings: Settings, message: NewMessage) -> str:
    return f"{message.id} {tokens.receipt_url(settings, message.id).removeprefix(settings.public_url)}\n"


if __name__ == "__main__":
    main()
