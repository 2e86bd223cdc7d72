"""The upkeep of feeds in a provider: likes in memory, statistics, and its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from feeds.feed_counters import FeedCounters
from feeds.for_you import like_reader
from feeds.for_you.co_likes import CoLikes
from feeds.scripts.script_book import ScriptBook
from feeds.scripts.script_feed import shared_runs
from feeds.scripts.script_process import Limits
from feeds.served_feeds import ServedFeeds
from service.feed_upkeep import FeedUpkeep, feed_upkeep
from storage.postgres.pool import Pool
from storage.private.feeds.feed_hours import KEPT, FeedHour, add_hours, read_hours
from storage.private.private_store import PrivateStore

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def app(pool: Pool, tmp_path: Path) -> Any:
    """Return the parts of the read side that the upkeep uses."""
    return SimpleNamespace(
        pool=pool,
        private=PrivateStore(pool),
        co_likes=CoLikes(),
        feed_counters=FeedCounters(),
        feeds=ServedFeeds(
            scripts=ScriptBook(tmp_path, shared_runs(Limits(load_s=60, run_s=60)))
        ),
    )


def wait_for(condition: Callable[[], object]) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("the upkeep did nothing")


def stored(app: Any) -> list[FeedHour]:
    with app.private.read() as conn:
        return read_hours(conn, LONG_AGO)


def test_upkeep_reads_likes_and_writes_counts(app: Any) -> None:
    with app.private.write() as conn:
        old = FeedHour("old", LONG_AGO + KEPT, pages=1)
        add_hours(conn, [old])
    with feed_upkeep(app):
        wait_for(lambda: app.co_likes.graph is not None)
        wait_for(lambda: stored(app) == [])
        app.feed_counters.count_page("a", None, 1, 0.001)
    # The last counts are written at the end.
    assert [(one.feed, one.pages) for one in stored(app)] == [("a", 1)]


def test_refused_counts_are_written_later(app: Any, pool: Pool) -> None:
    app.feed_counters.count_page("a", None, 1, 0.001)
    with pool.connection() as conn:
        conn.execute("ALTER TABLE feed_hour RENAME TO elsewhere")
    upkeep = FeedUpkeep(app)
    with pytest.raises(psycopg.errors.UndefinedTable):
        upkeep.work()
    with pool.connection() as conn:
        conn.execute("ALTER TABLE elsewhere RENAME TO feed_hour")
    upkeep.work()
    assert [(one.feed, one.pages) for one in stored(app)] == [("a", 1)]


def test_counts_are_written_while_likes_cannot_be_read(app: Any, pool: Pool) -> None:
    app.feed_counters.count_page("a", None, 1, 0.001)
    with pool.connection() as conn:
        conn.execute("ALTER TABLE link_like RENAME TO elsewhere")
    with pytest.raises(psycopg.errors.UndefinedTable):
        FeedUpkeep(app).work()
    with pool.connection() as conn:
        conn.execute("ALTER TABLE elsewhere RENAME TO link_like")
    assert [one.feed for one in stored(app)] == ["a"]


def test_end_does_not_wait_for_a_load(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(like_reader, "_BY_POST", "SELECT pg_sleep(250)")
    with feed_upkeep(app):
        wait_for(lambda: app.co_likes._reading is not None)
        time.sleep(0.2)
    assert app.co_likes.graph is None


def test_python_files_are_loaded_as_they_change(app: Any, tmp_path: Path) -> None:
    scripts = app.feeds.scripts
    with feed_upkeep(app):
        (tmp_path / "one.py").write_text("def feed(request): return []")
        wait_for(lambda: "one" in scripts.scripts)
        (tmp_path / "one.py").write_text("def feed(request): return [ ")
        wait_for(lambda: scripts.errors)
    assert dict(scripts.scripts) == {}
