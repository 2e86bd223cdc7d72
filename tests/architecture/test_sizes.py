"""Sizes of the house: packages, folders, files and names, each bounded."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())
_ROOTS: Final = _PROJECT["tool"]["importlinter"]["root_packages"]
BESIDE: Final = ("bench", "clients", "demo", "migrations", "tests")
PRODUCT: Final = tuple(name for name in _ROOTS if name not in BESIDE)

MAX_FILE_LINES: Final = 400
MAX_FILES: Final = 20
MAX_METHODS: Final = 40
METHODS: Final = (
    "appview/app_bsky/",  # a file an NSID: the lexicon decides how many
    "migrations/index/versions",  # a file a change of the tables
)
MAX_SHARE: Final = 0.15
MAX_SAME_NAME: Final = 2

COMMANDS: Final = "service/cli/"
"""A file a command: the tasks of users decide how many."""

# Files of data, or generated ones.
DATA: Final = {"demo/phrases.py", "clients/python/bigworld_client/methods.py"}


def files(*packages: str) -> list[Path]:
    return [
        path
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        if "node_modules" not in path.parts
    ]


def line_count(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_no_package_is_a_drawer_for_everything() -> None:
    # A method is a small file of its own: the lexicons decide how many there are.
    lines = {
        package: sum(
            line_count(path)
            for path in files(package)
            if not str(path.relative_to(ROOT)).startswith((*METHODS, COMMANDS))
        )
        for package in PRODUCT
    }
    most = MAX_SHARE * sum(lines.values())
    assert {name: count for name, count in lines.items() if count > most} == {}


def test_no_folder_has_more_files_than_a_reader_takes_in() -> None:
    counts = Counter(
        str(path.parent.relative_to(ROOT))
        for path in files(*PRODUCT, *BESIDE)
        if path.name != "__init__.py"
    )
    assert {
        name: count
        for name, count in counts.items()
        if count > (MAX_METHODS if name.startswith(METHODS) else MAX_FILES)
    } == {}


def test_no_file_is_too_long() -> None:
    lengths = {
        str(path.relative_to(ROOT)): line_count(path)
        for path in files(*PRODUCT, *BESIDE)
    }
    assert {
        name: count
        for name, count in lengths.items()
        if count > MAX_FILE_LINES and name not in DATA
    } == {}


def test_no_module_name_is_used_more_than_twice() -> None:
    counts = Counter(
        path.name for path in files(*PRODUCT) if path.name != "__init__.py"
    )
    assert {
        name: count for name, count in counts.items() if count > MAX_SAME_NAME
    } == {}
