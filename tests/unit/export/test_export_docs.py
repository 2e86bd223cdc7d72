"""The blocks of the docs page about exports run as they are printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from export_world import authors, exported_records, live_duckdb, run_export
from indexer_world import LIKE, POST, follow, like, post

from export.views import VIEWS, duckdb_views
from protocol.events.event import AccountEvent
from protocol.syntax.did import Did

PAGE = Path(__file__).parents[3] / "docs" / "take-the-network-out.md"


def blocks(language: str) -> list[str]:
    """Return the blocks of the page in a language."""
    found: list[str] = re.findall(rf"(?ms)^```{language}\n(.*?)^```", PAGE.read_text())
    return found


@pytest.fixture
def folder(index_db: str, tmp_path: Path, apply: Callable[..., Any]) -> Path:
    """Return an export with deleted, edited and hidden content."""
    alice, bob, eve = authors(3)
    first, event = alice.write(POST, post("first", langs=["en"]))
    apply(event)
    edited, event = alice.write(POST, post("typo", langs=["en"]))
    apply(event)
    apply(bob.write(POST, post("hallo", langs=["de"]))[1])
    apply(bob.write(LIKE, like(alice.uri(edited)))[1])
    apply(bob.write("app.bsky.graph.follow", follow(alice.did))[1])
    apply(eve.write(POST, post("hidden", langs=["fr"]))[1])
    run_export(index_db, tmp_path)
    apply(alice.commit({first: None, edited: post("no typo", langs=["en"])}))
    apply(AccountEvent(Did(eve.did), False, "deactivated", 0, 1))
    run_export(index_db, tmp_path)
    return tmp_path


def test_docs_duckdb_blocks_see_only_what_is_in_force(folder: Path) -> None:
    queries = blocks("sql")
    assert len(queries) == 6
    with duckdb.connect() as db:
        db.execute(duckdb_views(f"{folder}/"))
        answers = [db.execute(query).fetchall() for query in queries]
        texts = {row[0] for row in db.execute("SELECT text FROM posts").fetchall()}
        records = db.execute("SELECT count(*) FROM records").fetchone()
    assert texts == {"no typo", "hallo"}
    assert records == (exported_records(folder).total(),)
    [(_, followers, text), *_] = answers[0]
    assert (followers, text) == (1, "no typo")
    assert answers[1][0] == (POST, 2)
    assert (POST, 2, 2) in answers[2]
    assert {row[0] for row in answers[3]} == {POST, LIKE}
    assert len(answers[4]) == len(answers[5]) == 2


def test_docs_polars_block_sees_the_same_posts(folder: Path) -> None:
    [block] = blocks("python")
    names: dict[str, Any] = {"folder": str(folder)}
    exec(block, names)
    assert dict(names["languages"].rows()) == {"en": 1, "de": 1}
    posts = names["posts"].select("did", "text").collect().rows()
    assert set(posts) == set(live_duckdb(folder, "posts", "did, text"))


def test_views_of_an_export_without_rows_can_be_made(
    index_db: str, tmp_path: Path
) -> None:
    run_export(index_db, tmp_path)
    with duckdb.connect() as db:
        db.execute(duckdb_views(f"{tmp_path}/"))
        assert db.execute("SELECT * FROM labels").fetchall() == []
    assert (tmp_path / VIEWS).read_text() == duckdb_views()
