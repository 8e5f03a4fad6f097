"""The files of a deployment: the Procfiles, app.json, and the migrations' head."""

import json

from alembic.script import ScriptDirectory
from honcho.environ import parse_procfile

from receiptsvc.config import NAMES, PROJECT
from tests.support.databases import alembic_config


def test_the_procfile_names_release_web_and_worker() -> None:
    processes = parse_procfile((PROJECT / "Procfile").read_text()).processes
    assert list(processes) == ["release", "web", "worker"]


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


def test_the_migrations_have_one_head() -> None:
    assert len(ScriptDirectory.from_config(alembic_config()).get_heads()) == 1
