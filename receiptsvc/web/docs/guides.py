"""The guides: the Markdown files of the folder docs/, which are served with their links among each other.

docs/api.md is not served: the pages of the API say the same.
"""

import posixpath
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from receiptsvc.web.docs import markdown
from receiptsvc.web.docs.markdown import Text

NAMES = ("sending", "receiving", "statuses", "commands", "ops", "operations", "glossary")
"""Those that stand in the navigation, in its order."""

_REFERENCE = "api"
_PICTURE = ".png"


def folder() -> Traversable:
    """The folder docs/: inside the package where it was installed, beside it in a checkout."""
    package = files("receiptsvc")
    installed = package / "docs"
    return installed if installed.is_dir() else Path(str(package)).parent / "docs"


@cache
def paths() -> frozenset[str]:
    """Every guide's path in docs/, without `.md`: `sending`, `decisions/0034-whose-refusal`."""
    return frozenset(_walk(folder(), "", ".md", ".md")) - {_REFERENCE}


@cache
def pictures() -> frozenset[str]:
    """Every picture's path in docs/: `pictures/message.png`."""
    return frozenset(_walk(folder(), "", _PICTURE, ""))


@cache
def read(path: str) -> Text:
    """One of `paths` as HTML. Links to what is not served are shown as text."""

    def find_link(target: str) -> str | None:
        if "://" in target:
            return target
        file, _, fragment = target.partition("#")
        anchor = f"#{fragment}" if fragment else ""
        if not file:
            return anchor
        name = posixpath.normpath(posixpath.join(posixpath.dirname(path), file)).removesuffix(".md")
        if name in pictures():
            return file
        if name == _REFERENCE:
            return "../" * (path.count("/") + 2) + "docs"
        return file.removesuffix(".md") + anchor if name in paths() and file.endswith(".md") else None

    return markdown.read(_open(f"{path}.md").read_text(encoding="utf-8"), find_link)


def read_picture(path: str) -> bytes:
    """One of `pictures`, a PNG."""
    return _open(path).read_bytes()


def listed() -> Mapping[str, Text]:
    """The guides of the navigation by their paths."""
    return {name: read(name) for name in NAMES}


def _open(path: str) -> Traversable:
    found = folder()
    for part in path.split("/"):
        found /= part
    return found


def _walk(current: Traversable, prefix: str, ending: str, dropped: str) -> Iterator[str]:
    """The paths of the files with this ending. `dropped`: the ending that is left out of them."""
    for entry in current.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/", ending, dropped)
        elif entry.name.endswith(ending):
            yield prefix + entry.name.removesuffix(dropped)
