"""The table of feed statistics, from the rows to the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from service.cli.feeds.feed_stats import stats
from storage.postgres.pool import Conn
from storage.private.feeds.feed_hours import EVENTS, FAILED, FeedHour, add_hours

A = "at://did:plc:a/app.bsky.feed.generator/cats"
B = "at://did:plc:b/app.bsky.feed.generator/dogs"


@pytest.fixture
def counted(
    index_db: str, conn: Conn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Store counts of two feeds and point the settings at them."""
    monkeypatch.setenv("BIGWORLD_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", index_db)
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = []
    for back, feed, pages in ((1, A, 3), (2, A, 4), (2, B, 9), (50, B, 100)):
        one = FeedHour(feed, hour - timedelta(hours=back), pages, empty_pages=1)
        one.latency[3] = pages
        one.events[EVENTS.index("app.bsky.feed.defs#requestLess")] = back
        one.events[EVENTS.index(FAILED)] = int(feed == A and back == 1) * 2
        one.readers.add(back)
        hours.append(one)
    add_hours(conn, hours)
    conn.commit()


def run(*words: str) -> str:
    app = typer.Typer()
    app.command()(stats)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def rows(*words: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in run(*words, "--json").splitlines()]


@pytest.mark.usefixtures("counted")
def test_stats_add_up_by_feed() -> None:
    assert rows() == [
        {
            "feed": B,
            "readers": 1,
            "pages": 9,
            "empty": 1,
            "failed": 0,
            "p99_ms": 10,
            "interactions": "requestLess=2",
        },
        {
            "feed": A,
            "readers": 2,
            "pages": 7,
            "empty": 2,
            "failed": 2,
            "p99_ms": 10,
            "interactions": "requestLess=3",
        },
    ]
    [long] = rows("dogs", "--hours", "72")
    assert long["pages"] == 109


@pytest.mark.usefixtures("counted")
def test_stats_of_one_feed_by_hour() -> None:
    for name in ("cats", A):
        found = rows(name, "--by-hour")
        assert [row["pages"] for row in found] == [3, 4]
        assert all(row["hour"] for row in found)
    assert rows("birds") == []
    assert "cats" in run()
    assert run("birds").strip() == "nothing found"
