"""squawk, which finds in SQL what would hold up others, on what PostgreSQL was really sent."""

import json
import subprocess
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from receiptsvc.locations import PROJECT

_PROGRAM = Path(sysconfig.get_path("scripts")) / "squawk"
# What stands outside of a transaction has no lock_timeout. These locks need none: no reader or writer waits behind them.
_HARMLESS = "SHARE UPDATE EXCLUSIVE"


def lint(statements: Iterable[str], folder: Path) -> list[str]:
    """What is wrong with the statements of a session, a line each: the rule, why, and the SQL. `folder`: a new one."""
    folder.mkdir()
    files = []
    for number, text in enumerate(_parts(statements)):
        files.append(folder / f"{number:04}.sql")
        files[-1].write_text(text)
    command: list[str | Path] = [_PROGRAM, "--config", PROJECT / ".squawk.toml", "--reporter", "json", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return [
        f"{fault['rule_name']}: {fault['message']} {Path(fault['file']).read_text().splitlines()[fault['line']]}"
        for fault in json.loads(done.stdout)
        if not (fault["rule_name"] == "require-lock-timeout" and _HARMLESS in fault["message"])
    ]


def _parts(statements: Iterable[str]) -> Iterator[str]:
    """What was committed, in parts that each can be left and begun again: squawk is to look at each by itself.

    What a migration commits before its end it may have to begin again: it is given as if in no transaction.
    """
    transaction: list[str] | None = None
    for statement in statements:
        if statement.startswith("BEGIN"):
            transaction = [statement]
        elif transaction is None:
            yield f"{statement};\n"
        elif statement == "ROLLBACK":
            transaction = None
        else:
            transaction.append(statement)
            if statement == "COMMIT":
                is_whole = any(one.startswith("UPDATE alembic_version") for one in transaction)
                if not is_whole:
                    transaction = [transaction[0].partition("; ")[2], *transaction[1:-1]]
                yield "".join(f"{one};\n" for one in transaction if one)
                transaction = None
