"""`pip install`: the client alone, and the service, from a folder that has nothing to do with the project."""

import json
import re
import zipfile
from pathlib import Path
from urllib.parse import urljoin

import pytest

from receiptsvc import __version__
from receiptsvc.demo.processes import Stack, local_session
from receiptsvc.locations import PROJECT
from tests.support.installed import Environment, build_wheel

pytestmark = pytest.mark.slow

# All others ask a running service, or need nothing at all.
SERVER_COMMANDS = {
    *("callback-keys", "demo", "migrate", "rebuild", "replay", "sandbox", "urls", "users", "verify", "web"),
    "worker",
}
ASK_EVERY_COMMAND = """
import json
from click.testing import CliRunner
from receiptsvc.cli.main import commands
answers = {name: CliRunner().invoke(commands, [name, "--help"]) for name in commands.list_commands(None)}
print(json.dumps({name: [answer.exit_code, answer.output] for name, answer in answers.items()}))
"""
REMEDY = "in a checkout of it: pip install '.[server]'"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def client(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("client") / "venv", wheel)


@pytest.fixture(scope="module")
def server(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("server") / "venv", wheel, "server")


def test_every_file_of_the_package_and_every_migration_is_in_the_wheel(wheel: Path) -> None:
    beside = {f"receiptsvc/{name}": PROJECT / name for name in ("docs", "migrations")}
    folders = {"receiptsvc": PROJECT / "receiptsvc", **beside}
    ours = {
        f"{name}/{path.relative_to(folder)}"
        for name, folder in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == ours | {"receiptsvc/wsgi.py", "receiptsvc/gunicorn_conf.py"}
    assert {"receiptsvc/py.typed", "receiptsvc/dynmark/outbound/messaging.wsdl"} <= packed


def test_the_client_alone_has_its_commands_and_says_what_the_others_lack(client: Environment, tmp_path: Path) -> None:
    done = client.run("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"receiptsvc {__version__}\n")
    overview = client.run("--help", cwd=tmp_path)
    assert overview.returncode == 0
    assert f"Not installed: {REMEDY}" in overview.stdout
    said = json.loads(client.python(ASK_EVERY_COMMAND, cwd=tmp_path))
    assert {name for name, (exit_code, _) in said.items() if exit_code} == SERVER_COMMANDS
    for name in SERVER_COMMANDS:
        exit_code, output = said[name]
        assert (exit_code, output.count("\n")) == (1, 1), name
        assert output.startswith(f"Error: {name} needs the service"), name
        assert output.endswith(f": {REMEDY}\n"), name


@pytest.mark.parametrize("command", ["migrate", "urls", "web"])
def test_installed_without_a_database_a_command_says_so_and_writes_nothing(
    server: Environment, tmp_path: Path, command: str
) -> None:
    done = server.run(command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].removeprefix("Error: ").startswith("DATABASE_URL: must be set, such as")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert not (server.packages / "data").exists()


def test_installed_a_relative_path_is_refused(server: Environment, tmp_path: Path) -> None:
    done = server.run("urls", cwd=tmp_path, DATABASE_URL="sqlite:///x.db", SPOOL_DIR="spool")
    assert done.returncode == 2
    assert "DATABASE_URL: must be an absolute path such as sqlite:////var/lib" in done.stderr
    assert "SPOOL_DIR: must be an absolute path" in done.stderr


def assert_pages_are_whole(url: str) -> None:
    """Every address that the start page of the docs names is there."""
    with local_session() as session:
        page = session.get(f"{url}/docs", timeout=10)
        linked = {urljoin(page.url, link) for link in re.findall(r'(?:href|src)="([^"#]+)', page.text)}
        ours = {link for link in linked if link.startswith(url)} | {f"{url}/openapi.json", f"{url}/readyz"}
        assert len(ours) > 2
        assert {link: session.get(link, timeout=10).status_code for link in ours} == dict.fromkeys(ours, 200)


def test_the_installed_service_sends_and_gets_its_receipts(
    client: Environment, server: Environment, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "gunicorn.conf.py").write_text("bind = 'nowhere'\n")  # another project's
    with Stack(tmp_path / "stack", f"sqlite:///{tmp_path}/installed.db", project=elsewhere) as stack:
        sandbox = stack.commands["sandbox"][stack.commands["sandbox"].index("sandbox") :]
        stack.commands = {
            **{name: server.command(name) for name in ("web", "worker")},
            "migrations": server.command("migrate"),
            "sandbox": server.command(*sandbox),
        }
        stack.start_all()
        asks = {"RECEIPTSVC_URL": stack.url, "RECEIPTSVC_API_KEY": stack.api_key}
        sent = client.run("send", "--to", "447700900001", "--text", "Hello", "--wait", "60", cwd=tmp_path, **asks)
        assert (sent.returncode, sent.stderr) == (0, "")
        shown = client.run("status", "447700900001", "--json", cwd=tmp_path, **asks)
        assert [item["status"] for item in json.loads(shown.stdout)["items"]] == ["delivered"]
        assert stack.client().ledger()["balanced"]
        assert_pages_are_whole(stack.url)
    again = server.run("migrate", cwd=elsewhere, **{**stack.environ, "HOME": str(elsewhere)})
    assert again.stdout.startswith("nothing to do")
    assert sorted(path.name for path in elsewhere.iterdir()) == ["gunicorn.conf.py"]
