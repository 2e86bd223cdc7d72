"""docs/architecture.md: packages, layers and tours as they are in the code."""

from __future__ import annotations

import re
import tomllib
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def section(title: str) -> str:
    found = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    assert found, title
    return found


def owners(title: str) -> list[str]:
    return re.findall(r"(?m)^\| \d+ \| `([\w.]+:[\w.]+)` \|", section(title))


COMMIT = owners("Tour of a commit")
SEARCH = owners("Tour of a search request")


def test_tours_have_few_owners() -> None:
    assert 5 < len(COMMIT) <= 9
    assert 5 < len(SEARCH) <= 7


@pytest.mark.parametrize("owner", [*COMMIT, *SEARCH])
def test_tour_owner_exists(owner: str) -> None:
    module, _, name = owner.partition(":")
    found = reduce(getattr, name.split("."), import_module(module))
    assert callable(found)
    assert found.__module__ == module, "it is only imported there"


def test_layers_on_the_page_are_those_of_the_contract() -> None:
    shown = re.search(r"(?s)```layers\n(.*?)```", PAGE)
    assert shown is not None
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    layers = next(c["layers"] for c in contracts if c["type"] == "layers")
    assert shown[1].splitlines() == layers


def test_packages_on_the_page_are_those_of_the_contract() -> None:
    shown = re.findall(r"(?m)^\| `(\w+)` \|", section("Packages"))
    assert sorted(shown) == sorted(PROJECT["tool"]["importlinter"]["root_packages"])
