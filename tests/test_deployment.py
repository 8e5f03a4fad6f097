"""The files of a deployment: the Procfiles, app.json, and the migrations' head."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from honcho.environ import parse_procfile

from receiptsvc.config import NAMES
from receiptsvc.locations import PROJECT
from receiptsvc.store.core import schema
from tests.support.databases import alembic_config


def test_the_procfile_names_release_web_and_worker() -> None:
    processes = parse_procfile((PROJECT / "Procfile").read_text()).processes
    assert list(processes) == ["release", "web", "worker"]
    assert processes["release"] == schema.MIGRATE


def test_the_local_procfile_runs_the_same_processes_on_port_8000() -> None:
    local = parse_procfile((PROJECT / "Procfile.desk").read_text()).processes
    deployed = parse_procfile((PROJECT / "Procfile").read_text()).processes
    for name, command in local.items():
        assert command.startswith("PORT=8000 .venv/bin/python -m ")
        assert command.endswith(deployed[name].removeprefix("python -m "))


def test_app_json_names_only_settings_that_are_read() -> None:
    app = json.loads((PROJECT / "app.json").read_text())
    assert set(app["env"]) <= NAMES
    assert set(app["formation"]) == {"web", "worker"}


def test_the_migrations_have_one_head_which_the_code_knows() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [schema.REVISION]


def test_each_migration_counts_up_and_names_a_release_that_may_use_the_tables_after_it() -> None:
    newest_first = list(ScriptDirectory.from_config(alembic_config()).walk_revisions())
    oldest = "0000"
    for place, migration in enumerate(reversed(newest_first), start=1):
        assert migration.revision == f"{place:04}"
        assert oldest <= migration.module.oldest_compatible <= migration.revision
        oldest = migration.module.oldest_compatible


PINS = ("requirements", "requirements-dev", "benchmarks/requirements")


def asked(name: str) -> set[str]:
    """The packages that a file of pins is made for."""
    if name == "requirements":
        project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
        lines = [*project["dependencies"], *project["optional-dependencies"]["server"]]
    else:
        lines = (PROJECT / f"{name}.in").read_text().splitlines()
    return {re.split(r"[\[<>=]", line)[0] for line in lines if line and not line.startswith(("#", "-c"))}


@pytest.mark.parametrize("name", PINS)
def test_every_requirement_is_pinned_by_the_hashes_of_its_files(name: str) -> None:
    text = (PROJECT / f"{name}.txt").read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    pinned = {line.partition("==")[0].partition("[")[0] for line in lines}
    for line in lines:
        assert re.match(r"[a-z0-9.-]+(\[[a-z,]+\])?==\S+ ", line), line
        assert re.search(r" --hash=sha256:[0-9a-f]{64}(?: |$)", line), line
    assert asked(name) <= pinned


def test_the_files_of_pins_agree() -> None:
    versions = dict[str, set[tuple[str, ...]]]()  # several in one file: for different versions of Python
    for name in PINS:
        found = re.findall(r"(?m)^([a-z0-9.-]+)\S*==(\S+)", (PROJECT / f"{name}.txt").read_text())
        for package in {package for package, _ in found}:
            versions.setdefault(package, set()).add(tuple(version for one, version in found if one == package))
    assert {package: several for package, several in versions.items() if len(several) > 1} == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("summary", "last", "code"),
    [
        ("== 4213 passed, 2 skipped, 1 warning in 470.12s (0:07:50) ==", "4213 passed, 0 failed, 2 skipped", 0),
        ("== 3 failed, 12 passed, 1 error in 3.10s ==", "12 passed, 4 failed, 0 skipped", 1),
    ],
)
def test_the_gate_ends_with_the_pythons_and_what_passed(tmp_path: Path, summary: str, last: str, code: int) -> None:
    """On the gate as it is, with a make that only says how tests end."""
    make = tmp_path / "make"
    make.write_text(
        '#!/bin/sh\ncase "$*" in\n'
        "*test-pythons*) echo smoke-3.12.1; echo smoke-3.13.0;;\n"
        f"test) echo '{summary}'; exit {code};;\nesac\n"
    )
    make.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [PROJECT / ".ci" / "run"], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    above, ending = done.stdout.splitlines()[-2:]
    assert above == summary, "where a parser of pytest's output finds it"
    assert re.fullmatch(rf"python-3\.[0-9.]+,smoke-3\.12\.1,smoke-3\.13\.0: {last}", ending)
