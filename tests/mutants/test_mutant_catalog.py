"""Each mutant applies to its file and names existing tests."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from mutant import SECURITY, THREATS, Mutant
from mutant_catalog import MUTANTS
from mutant_run import choose, is_enough

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/explanation/reliability.md").read_text()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_applies_to_its_file(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text()
    changed = mutant.apply(text)
    assert changed != text
    # A mutant that does not parse would be killed by every test.
    ast.parse(changed)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_names_existing_tests(mutant: Mutant) -> None:
    assert mutant.tests
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert name.partition("[")[0] in functions_of(path), test


@cache
def functions_of(path: str) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_names_are_unique_and_every_threat_has_several() -> None:
    names = Counter(mutant.name for mutant in MUTANTS)
    assert set(names.values()) == {1}
    threats = Counter(mutant.threat for mutant in MUTANTS)
    assert threats.keys() == THREATS.keys()
    assert min(threats.values()) >= 2


def test_mutant_without_its_text_is_refused() -> None:
    for text in ("", "a b a"):
        with pytest.raises(ValueError, match="x: its old text"):
            Mutant("x", "hash", "file", "a", "c", ()).apply(text)
    assert Mutant("x", "hash", "file", "a", "c", ()).apply("b a b") == "b c b"


def test_mutants_are_chosen_by_name_or_threat() -> None:
    assert choose([]) == list(MUTANTS)
    assert {mutant.threat for mutant in choose(["replay"])} == {"replay"}
    assert [mutant.name for mutant in choose(["high-s-of-k256"])] == ["high-s-of-k256"]
    assert choose(["nothing of the kind"]) == []


def test_page_names_existing_tests_only() -> None:
    named = set(re.findall(r"`(test_\w+\.py)`", PAGE))
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(named) > 20
    assert named <= there


def test_no_security_mutant_and_few_others_may_survive() -> None:
    some = [m for m in MUTANTS if m.threat not in SECURITY][:20]
    secure = next(m for m in MUTANTS if m.threat in SECURITY)
    assert THREATS.keys() > SECURITY
    assert is_enough(some, [])
    assert is_enough(some, some[:1])
    assert not is_enough(some, some[:2])
    assert not is_enough([*some, secure], [secure])
