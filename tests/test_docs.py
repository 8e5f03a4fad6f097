"""What people read: no line too long, no link that leads nowhere, no file named that is not there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiptsvc.locations import PROJECT

MAX_LINE = 100
MAX_TERMS = 25
MAX_RECORD_LINES = 40
MAX_DESIGN_LINES = 120

PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"), *PROJECT.glob("receiptsvc/web/docs/**/*.md")])
RECORDS = sorted(PROJECT.glob("docs/decisions/0*.md"))
GENERATED = {PROJECT / "docs" / "api.md"}  # its lines are made of docstrings

_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FILE = re.compile(r"`([\w.-]+(?:/[\w.-]+)*/?)`")
_FOLDERS = ("receiptsvc/", "docs/", "tests/", "migrations/", "benchmarks/")


def name_of(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def prose_of(page: Path) -> str:
    """A page without its blocks of code."""
    return _CODE.sub("", page.read_text())


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        yield from ((page, target) for target in _LINK.findall(prose_of(page)) if "://" not in target)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in GENERATED], ids=name_of)
def test_no_line_of_prose_is_longer_than_the_limit(page: Path) -> None:
    lines = [line for line in prose_of(page).splitlines() if not line.startswith("|")]
    assert [line for line in lines if len(line) > MAX_LINE] == []


def test_no_line_of_the_settings_is_longer_than_the_limit() -> None:
    assert [line for line in (PROJECT / ".env.example").read_text().splitlines() if len(line) > MAX_LINE] == []


def test_every_relative_link_leads_somewhere() -> None:
    found = list(links())
    assert len(found) > 50
    for page, target in found:
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name_of(page)}: {target}"
        if anchor:
            assert anchor in anchors_of(file), f"{name_of(page)}: {target}"


def test_the_files_that_readme_and_contributing_name_exist() -> None:
    prose = prose_of(PROJECT / "README.md") + prose_of(PROJECT / "CONTRIBUTING.md")
    named = {one for one in _FILE.findall(prose) if one.startswith(_FOLDERS)}
    assert len(named) > 30
    assert [one for one in named if not (PROJECT / one).exists()] == []


def test_the_map_of_folders_in_the_readme_is_the_tree() -> None:
    shown = (PROJECT / "README.md").read_text().partition("\nreceiptsvc/\n")[2].partition("\n```")[0]
    drawn = set(re.findall(r"^  (\w+)/ ", shown, re.MULTILINE))
    package = PROJECT / "receiptsvc"
    assert drawn == {path.parent.name for path in package.glob("*/__init__.py")}
    for folder in re.findall(r"^(\w+)/ ", shown, re.MULTILINE):
        assert (PROJECT / folder).is_dir()


@pytest.mark.parametrize("page", [*RECORDS, PROJECT / "docs" / "design.md"], ids=name_of)
def test_the_modules_that_the_design_names_exist(page: Path) -> None:
    for one in _FILE.findall(prose_of(page)):
        if "/" in one and not one.startswith("/"):
            assert any((base / one).exists() for base in (PROJECT, PROJECT / "receiptsvc")), one


def test_every_decision_is_in_the_index_with_its_title_and_is_short() -> None:
    index = (PROJECT / "docs" / "decisions" / "README.md").read_text()
    for place, record in enumerate(RECORDS, start=1):
        text = record.read_text()
        number, title = re.match(r"# (\d{4}): (.+)\n", text).groups()  # type: ignore[union-attr]
        assert int(number) == place
        assert record.name.startswith(f"{number}-")
        assert f"- [{number}]({record.name}) {title}\n" in index
        assert len(text.splitlines()) <= MAX_RECORD_LINES
        assert all(f"**{part}.**" in text for part in ("Context", "Decision", "What would change it"))


def test_the_design_is_one_page() -> None:
    assert len((PROJECT / "docs" / "design.md").read_text().splitlines()) <= MAX_DESIGN_LINES


def test_the_glossary_is_short() -> None:
    terms = re.findall(r"^\| \*\*", (PROJECT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert 0 < len(terms) <= MAX_TERMS
