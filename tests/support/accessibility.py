"""Looks with axe-core for what keeps people from using a page: WCAG 2.2, A and AA, as far as a program can tell."""

from pathlib import Path
from typing import Any

from tests.support.browser import Tab

_AXE = Path(__file__).parent / "axe" / "axe.min.js"
_RUN = """
axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }).then((found) =>
  found.violations.flatMap((fault) => fault.nodes.map((node) => `${fault.id}: ${node.html.slice(0, 200)}`)))
"""


def find_faults(tab: Tab) -> list[str]:
    """The faults of the page that is open, each with the element."""
    if not tab.run("typeof axe === 'object'"):
        tab.run(f"{_AXE.read_text()}\n0")
    found: Any = tab.run(_RUN)
    return list(found)
