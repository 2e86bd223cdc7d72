"""`bigworld sql`: statements, forms and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from indexer_world import POST, author, post


@pytest.fixture
def stored(apply: Any) -> str:
    """Index one post; return its address."""
    a = author(1)
    path, event = a.write(POST, post("hello"))
    apply(event)
    return a.uri(path)


def test_sql_prints_each_form(run: Any, stored: str, tmp_path: Path) -> None:
    query = "SELECT uri, langs, likes FROM posts"
    assert stored in run("sql", query)
    assert run("sql", query, "--format", "csv") == f"uri,langs,likes\n{stored},,0\n"
    file = tmp_path / "posts.sql"
    file.write_text(f"{query};\n")
    line = run("sql", "--file", str(file), "--format", "json")
    assert json.loads(line) == {"uri": stored, "langs": None, "likes": 0}
    assert "active_days" in run("sql", "\\d")
    sums = run("sql", "SELECT sum(records) AS n FROM activity_days", "--format", "json")
    assert json.loads(sums) == {"n": 1}


def test_sql_refuses_writes_and_reports_more_rows(run: Any, stored: str) -> None:
    assert "read-only transaction" in run("sql", "DELETE FROM public.post", code=1)
    assert "syntax error" in run("sql", "SELEC 1", code=1)
    assert "not both" in run("sql", "SELECT 1", "--file", "x", code=1)
    assert "not readable" in run("sql", "--file", "/nowhere", code=1)
    cut = run("sql", "SELECT * FROM generate_series(1, 9)", "--rows", "2")
    assert "more than 2 rows" in cut
