"""Every word that the API shows has a meaning, and every meaning belongs to a word that is used."""

import ast
import re
from collections.abc import Iterator

import pytest

from receiptsvc.domain import meanings
from receiptsvc.domain.failures import FailureReason, reason_of
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.statuses import Effect, Report, Source, Status
from receiptsvc.locations import PROJECT
from tests.support.rows import T0


def test_every_status_has_a_meaning_in_rank_order() -> None:
    assert list(meanings.STATUSES) == list(Status)


def test_every_effect_has_a_meaning() -> None:
    assert set(meanings.EFFECTS) == set(Effect)


def test_every_outcome_has_a_meaning_and_an_effect_means_the_same_as_an_outcome() -> None:
    assert set(meanings.OUTCOMES) == set(ReceiptOutcome)
    for effect, meaning in meanings.EFFECTS.items():
        assert meanings.OUTCOMES[ReceiptOutcome(effect.value)].means == meaning.means


def test_every_class_of_failures_has_a_meaning() -> None:
    assert set(meanings.FAILURE_REASONS) == set(FailureReason)


@pytest.mark.parametrize("reason", meanings.FAILURE_REASONS)
def test_the_examples_of_a_class_of_failures_are_of_it(reason: FailureReason) -> None:
    for description in re.findall(r'"(.+?)"', meanings.FAILURE_REASONS[reason].more):
        report = Report(Source.GATEWAY, Status.UNDELIVERED, T0, None, "7", description)
        assert reason_of(report, "token") is reason


def test_meanings_fit_into_a_table() -> None:
    every = (meanings.STATUSES, meanings.EFFECTS, meanings.OUTCOMES, meanings.MATCHING_RULES, meanings.STEPS)
    for meaning in (one for each in (*every, meanings.FAILURE_REASONS) for one in each.values()):
        assert meaning.means
        assert not meaning.means.endswith(".")
        assert not {"|", "\n"} & set("".join(map(str, meaning)))


def test_the_rules_that_the_code_writes_are_those_that_are_explained() -> None:
    assert set(_rules_in_code()) == {*meanings.MATCHING_RULES, *meanings.STEPS}


def _rules_in_code() -> Iterator[str]:
    """The rules of transitions: keywords `rule`, constants `BY_…` and `…_BY_HAND`, the table `_RULES`, and what a person's deeds say."""
    package = PROJECT / "receiptsvc"
    store = package / "store"
    files = [
        package / "domain" / "correlation.py",
        package / "domain" / "call_ends.py",
        package / "domain" / "operator_actions.py",
        *(package / "worker").rglob("*.py"),
        *(store / "messages").rglob("*.py"),
        *(store / "outbound").rglob("*.py"),
    ]
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        values: list[ast.expr] = []
        if isinstance(node, ast.keyword) and node.arg == "rule":
            values = [node.value]
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id.startswith("BY_") or node.targets[0].id.endswith("_BY_HAND"):
                values = [node.value]
            elif node.targets[0].id == "_RULES" and isinstance(node.value, ast.Dict):
                values = node.value.values
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"_step", "Step"}:
            values = node.args[1:2]
        for value in values:
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value
