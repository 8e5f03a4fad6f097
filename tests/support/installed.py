"""The project as `pip install` leaves it: its wheel in new environments, with what it says that it needs and no more.

Nothing is downloaded: the packages are those of the environment in which the tests run.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from receiptsvc.locations import PROJECT


def build_wheel(folder: Path) -> Path:
    """Build the project's wheel."""
    _run("hatchling", "build", "--target", "wheel", "--directory", str(folder))
    (wheel,) = folder.glob("*.whl")
    return wheel


class Environment:
    """A virtual environment with the wheel, its requirements and those of some `extras`."""

    def __init__(self, folder: Path, wheel: Path, *extras: str) -> None:
        self.folder = folder
        _run("uv", "venv", "--quiet", "--offline", "--python", sys.executable, str(folder))
        _run("uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python", str(folder), str(wheel))
        (self.packages,) = folder.glob("lib/python*/site-packages")
        (installed,) = metadata.distributions(name="receiptsvc", path=[str(self.packages)])
        for requirement in _needed(installed.requires, extras):
            self._link(requirement)

    def command(self, *arguments: str) -> list[str]:
        """The command `receiptsvc` of this environment."""
        return [str(self.folder / "bin" / "receiptsvc"), *arguments]

    def python(self, code: str, *, cwd: Path) -> str:
        """What a piece of Python prints in this environment."""
        command = [str(self.folder / "bin" / "python"), "-c", code]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=True).stdout

    def run(self, *arguments: str, cwd: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in a folder, with nothing but `environ` in its environment."""
        return subprocess.run(
            self.command(*arguments),
            cwd=cwd,
            env={"PATH": os.environ["PATH"], "HOME": str(cwd), **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _link(self, requirement: Requirement) -> None:
        """Put a package with all that it needs into the environment, unless it is there."""
        found = metadata.distribution(requirement.name)
        for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            link = self.packages / name
            if not link.exists():
                link.symlink_to(str(found.locate_file(name)))
        for needed in _needed(found.requires, requirement.extras):
            try:
                metadata.distribution(needed.name)
            except metadata.PackageNotFoundError:
                raise AssertionError(f"{requirement.name} needs {needed.name}, which is not there") from None
            self._link(needed)


def _needed(requires: Iterable[str] | None, extras: Iterable[str]) -> Iterator[Requirement]:
    for requirement in map(Requirement, requires or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def _run(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], cwd=PROJECT, stdout=subprocess.DEVNULL, check=True)
