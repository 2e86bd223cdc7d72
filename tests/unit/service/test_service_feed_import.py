"""`bigworld feed import`: the recipe to stdout or a file, remarks to stderr."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from feeds.recipes.parsing import parse_recipe
from service.cli.feeds.feed_import import import_file
from service.operator_errors import ServiceError

BLOCKS = {
    "displayName": "Herons",
    "blocks": [
        {"type": "input", "inputType": "tags", "tags": ["herons"]},
        {"type": "replace", "with": "root"},
    ],
}


def run(*words: str) -> Result:
    app = typer.Typer()
    app.command()(import_file)
    return CliRunner().invoke(app, words)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "herons.json"
    path.write_text(json.dumps(BLOCKS))
    return path


def test_recipe_is_printed_and_left_out_parts_are_named(file: Path) -> None:
    result = run(str(file))
    assert result.exit_code == 0
    assert parse_recipe(result.stdout).name == "herons"
    assert "blocks[1]: left out: posts cannot be replaced" in result.stderr
    assert "SkyFeed: 1 of 2 parts unchanged" in result.stderr


def test_file_is_written_once(file: Path) -> None:
    output = file.with_suffix(".toml")
    result = run(str(file), "--output", str(output))
    assert (result.exit_code, result.stdout) == (0, "")
    assert parse_recipe(output.read_text()).title == "Herons"
    again = run(str(file), "--output", str(output))
    assert isinstance(again.exception, ServiceError)
    assert "exists" in str(again.exception)


def test_other_files_are_refused(file: Path) -> None:
    for data in (b"\xff", b"{}", b"[1"):
        file.write_bytes(data)
        refused = run(str(file))
        assert isinstance(refused.exception, ServiceError)
        assert "is not imported" in str(refused.exception)
    missing = run(str(file.with_name("missing.json")))
    assert isinstance(missing.exception, ServiceError)
