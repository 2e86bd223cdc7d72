"""`bigworld export …`, from the command line to the files and back."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from indexer_world import POST, Author, author, post

import export
from export.json_lines import read_lines
from indexer.apply import apply_batch
from protocol.events.event import Event
from storage.postgres.pool import Conn, Pool
from storage.records.interning import Interner

Run = Callable[..., str]


@pytest.fixture
def write(conn: Conn, pool: Pool) -> Callable[..., None]:
    """Return a function that applies events."""
    interner = Interner(pool, cache_size=100)

    def apply(*events: Event) -> None:
        apply_batch(conn, interner, events, {}, datetime.now(UTC))

    return apply


@pytest.fixture
def alice() -> Author:
    return author(0)


def last_json(output: str) -> dict[str, Any]:
    """Return the last line; lines of progress on stderr may come before."""
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def texts(folder: Path) -> str:
    """Return the texts of the events of an export of JSON lines."""
    files = sorted(folder.rglob("*.jsonl.zst"), key=lambda file: file.stat().st_mtime)
    return "".join(line.decode() for file in files for line in read_lines(file))


def test_export_is_written_continued_compacted_and_verified(
    run: Run, write: Callable[..., None], alice: Author, tmp_path: Path
) -> None:
    folder = tmp_path / "network"
    path, event = alice.write(POST, post("first"))
    write(event, alice.write(POST, post("second"))[1])
    told = last_json(run("export", "--to", str(folder), "--json"))
    assert told["rows"] > 0
    assert not told["started_over"]
    write(alice.commit({path: None}))
    assert "rows written" in run("export", "--to", str(folder))
    found = last_json(run("export", "verify", str(folder), "--json"))
    assert (found["sound"], found["dead"]) == (True, 0)
    assert found["pending"] > 0
    assert "rows removed" in run("export", "compact", str(folder))
    found = last_json(run("export", "verify", str(folder), "--json"))
    assert (found["sound"], found["pending"]) == (True, 0)


def test_verify_fails_for_a_changed_file(
    run: Run, write: Callable[..., None], alice: Author, tmp_path: Path
) -> None:
    folder = tmp_path / "network"
    write(alice.write(POST, post("first"))[1])
    run("export", "--to", str(folder))
    [file] = folder.glob("posts/*/*.parquet")
    file.write_bytes(file.read_bytes()[:-1])
    assert run("export", "verify", str(folder), code=1) == "1"


def test_commands_on_a_folder_that_is_no_export_fail(run: Run, tmp_path: Path) -> None:
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "thesis.txt").write_text("mine")
    assert "other files" in run("export", "--to", str(strange), code=1)
    assert "no export" in run("export", "verify", str(strange), code=1)
    assert "other files" in run("export", "compact", str(strange), code=1)


def test_takedown_of_a_record_reaches_the_export_and_its_undo_too(
    run: Run, write: Callable[..., None], alice: Author, tmp_path: Path
) -> None:
    folder = tmp_path / "events"
    path, event = alice.write(POST, post("offending"))
    write(event)
    export = ("export", "--to", str(folder), "--format", "jsonl")
    run(*export)
    run("takedown", "add", alice.uri(path), "--reason", "spam")
    run(*export)
    run("export", "compact", str(folder))
    assert "offending" not in texts(folder)
    run("takedown", "undo", alice.uri(path), "--reason", "appeal")
    run(*export)
    assert "offending" in texts(folder)


def test_export_reads_no_private_table() -> None:
    """Only takedowns come from private state, as subjects to leave out."""
    modules = sorted(Path(export.__path__[0]).glob("*.py"))
    imported = {
        node.module
        for path in modules
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    private = {name for name in imported if name.startswith("storage.private")}
    assert private == {"storage.private.takedowns"}
