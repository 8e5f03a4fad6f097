"""The release before this checkout, and one after it, each as a folder of code that a `Stack` can run."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

from alembic.script import ScriptDirectory

from receiptsvc.locations import PROJECT
from receiptsvc.store.core import schema
from tests.support import toy_upgrade
from tests.support.databases import alembic_config

_TAGS = "v[0-9]*"  # a release's tag, such as v1.2.0
_NEEDED = ("receiptsvc", "migrations", "docs", "gunicorn.conf.py", "wsgi.py", "pyproject.toml")


def before(folder: Path, checkout: Path = PROJECT) -> tuple[Path, str]:
    """The folder of the release before, and whose code that is: of the newest tag, else the checkout's own.

    `folder`: where a tag's code is put. Its packages are those of the environment in which the tests run.
    """
    try:
        tag = _git(checkout, "describe", "--tags", "--abbrev=0", "--match", _TAGS).decode().strip()
        archive = _git(checkout, "archive", "--format=tar", tag)
    except (OSError, subprocess.CalledProcessError):  # no git, no history, no tag
        return checkout, "the checkout's own code, as no release's tag is at hand"
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder, f"the code of {tag}"


def after(folder: Path) -> Path:
    """The checkout as a later release: in a new folder, with the toy migrations behind its own."""
    folder.mkdir()
    for name in _NEEDED:
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy2
        copy(PROJECT / name, folder / name)
    head = ScriptDirectory.from_config(alembic_config()).get_revision(schema.REVISION)
    toy_upgrade.write_both(folder / "migrations" / "versions", oldest=head.module.oldest_compatible)
    path = folder / "receiptsvc" / "store" / "core" / "schema.py"
    own, its = (f'REVISION = "{revision}"' for revision in (schema.REVISION, toy_upgrade.AFTER))
    assert own in path.read_text()
    path.write_text(path.read_text().replace(own, its))
    return folder


def _git(checkout: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=checkout, capture_output=True, check=True).stdout  # noqa: S607 - whichever git there is
