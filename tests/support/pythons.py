"""A smoke test on every other Python at hand: the wheel and the pinned requirements, each module imported, the demo.

    python -m tests.support.pythons

Prints a line for each, such as `smoke-3.12.1`, or `broken-3.12.1` after what went wrong. Exit code 1 if one is broken.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from receiptsvc.locations import PROJECT
from tests.support.installed import build_wheel

VERSIONS = ("3.11", "3.12", "3.13", "3.14")

_ENVIRONMENTS = PROJECT / ".pythons"
_ASK = "import sys; print(sys.version.split()[0], sys.version_info.releaselevel)"
_IMPORT_ALL = """
import importlib, pkgutil, receiptsvc
names = [module.name for module in pkgutil.walk_packages(receiptsvc.__path__, "receiptsvc.")]
left_out = ("receiptsvc.__main__", "receiptsvc.web.__main__", "receiptsvc.wsgi", "receiptsvc.gunicorn_conf")
for name in names:
    if not name.startswith(("receiptsvc.migrations", *left_out)):
        importlib.import_module(name)
"""


def find() -> dict[str, Path]:
    """A final release of each of VERSIONS that is on this machine, but for the one that runs this, by full version."""
    found: dict[str, Path] = {}
    for minor in VERSIONS:
        for path in _candidates(minor):
            asked = subprocess.run([path, "-c", _ASK], capture_output=True, text=True, check=False)
            version, _, level = asked.stdout.strip().partition(" ")
            if asked.returncode == 0 and level == "final" and version.startswith(f"{minor}."):
                found[version] = path
                break
    running = ".".join(map(str, sys.version_info[:2]))
    return {version: path for version, path in found.items() if not version.startswith(f"{running}.")}


def smoke(version: str, python: Path, wheel: Path) -> None:
    """Install the service there and run the demo. Raises CalledProcessError."""
    folder = _ENVIRONMENTS / version
    there = ("--python", str(folder))
    if not folder.exists():
        _run(sys.executable, "-m", "uv", "venv", "--quiet", "--python", str(python), str(folder))
    install = (sys.executable, "-m", "uv", "pip", "install", "--quiet", *there)
    _run(*install, "--require-hashes", "--requirements", str(PROJECT / "requirements.txt"))
    _run(*install, "--no-deps", "--reinstall", str(wheel))
    with tempfile.TemporaryDirectory() as elsewhere:
        _run(str(folder / "bin" / "python"), "-W", "error", "-c", _IMPORT_ALL, cwd=elsewhere)
        _run(str(folder / "bin" / "receiptsvc"), "demo", cwd=elsewhere)


def main() -> int:
    """Test them all, one after the other."""
    is_broken = False
    with tempfile.TemporaryDirectory() as folder:
        others = find()
        wheel = build_wheel(Path(folder)) if others else Path()
        for version, python in others.items():
            try:
                smoke(version, python, wheel)
            except subprocess.CalledProcessError as error:
                is_broken = True
                print(error.stdout, f"broken-{version}", sep="\n", flush=True)
            else:
                print(f"smoke-{version}", flush=True)
    return int(is_broken)


def _candidates(minor: str) -> Iterator[Path]:
    """Where a Python may be: on the path, and where pyenv and uv keep theirs."""
    name = f"python{minor}"
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if os.access(path := Path(folder) / name, os.X_OK):
            yield path
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR", Path.home() / ".local/share/uv/python"))
    yield from (*pyenv.glob(f"{minor}.*/bin/{name}"), *uv.glob(f"cpython-{minor}.*/bin/{name}"))


def _run(*command: str, cwd: str | Path = PROJECT) -> None:
    subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)


if __name__ == "__main__":
    sys.exit(main())
