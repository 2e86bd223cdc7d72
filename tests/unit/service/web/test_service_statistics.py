"""The statistics page, its plots and files, and `bigworld stats`."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from anyio import CapacityLimiter
from indexer_world import POST, author, like, post
from starlette.applications import Starlette
from typer.testing import CliRunner

from analytics.activity_rollups import count_active
from analytics.statistics import read_statistics
from network.server.listener import serving_in_thread
from service.cli.app import app
from service.web.rendering import PageFrame
from service.web.statistics.statistics_page import StatisticsPage
from service.web.statistics.svg_plots import describe, plot_bars
from storage.postgres.pool import Conn, Pool


@pytest.fixture
def counted(conn: Conn, apply: Any) -> datetime:
    """Index records of this hour; return the time."""
    now = datetime.now(UTC)
    a = author(1)
    path, event = a.write(POST, post("hi", langs=["en"], createdAt=now.isoformat()))
    liking = like(a.uri(path)) | {"createdAt": now.isoformat()}
    apply(event, a.write(liking["$type"], liking)[1])
    # The fixture indexes at a fixed time; the counts are moved to this hour.
    conn.execute("UPDATE activity_change SET at = date_trunc('hour', now(), 'UTC')")
    count_active(conn, now)
    conn.execute(
        "INSERT INTO host (hostname, url, accounts) VALUES ('pds.test', 'http://x', 7)"
    )
    conn.execute(
        "INSERT INTO search_trend VALUES"
        " (1, '=cmd', true, 340, 400, now(), '{}', 12),"
        " (2, '#b', false, 1, 1, now(), '{}', 0)"
    )
    conn.commit()
    return now


@pytest.fixture
def site(pool: Pool, counted: datetime) -> Iterator[str]:
    provider: Any = SimpleNamespace(
        pool=pool, cdn_url_pattern=None, service_did="did:web:example.com"
    )
    threads = CapacityLimiter(2)
    frame, page = PageFrame(provider, threads), StatisticsPage(provider, threads)
    show = frame.route("statistics.html", page.page)
    with serving_in_thread(Starlette(routes=[*page.routes(show)])) as served:
        yield served


def test_page_shows_plots_with_their_numbers(site: str) -> None:
    reply = httpx.get(f"{site}/statistics")
    assert reply.status_code == 200
    text = reply.text
    # Three kinds by hour and by day, and the active accounts.
    assert text.count('<svg class="plot"') == 7
    assert text.count('role="img" aria-labelledby=') == 7
    assert "from 12 to 340 accounts in two hours" in text
    assert "pds.test" in text
    main = text.partition("<main")[2].partition("</main>")[0]
    assert "<script" not in main
    assert "style=" not in main


def test_files_hold_the_tables(site: str) -> None:
    reply = httpx.get(f"{site}/statistics/hours.csv")
    lines = reply.text.splitlines()
    assert reply.headers["content-type"].startswith("text/csv")
    assert lines[0] == "UTC,posts,likes,reposts,follows,blocks"
    assert len(lines) == 49
    assert ",1,1,0,0,0" in "\n".join(lines[1:3])
    assert (
        httpx.get(f"{site}/statistics/languages.csv").text == "language,posts\nen,1\n"
    )
    # A topic is no formula of a spreadsheet.
    assert "\n'=cmd,340" in httpx.get(f"{site}/statistics/topics.csv").text
    assert httpx.get(f"{site}/statistics/x.csv").status_code == 404


def test_statistics_of_an_empty_index(conn: Conn) -> None:
    found = read_statistics(conn, datetime(2026, 3, 1, 0, 0, tzinfo=UTC))
    assert [len(found.hours), len(found.days), len(found.active)] == [48, 34, 34]
    assert found.hours[-1].at - found.hours[0].at == timedelta(hours=47)
    assert (found.languages, found.hosts, found.topics) == ([], [], [])
    conn.rollback()


def test_plot_is_xml_and_escapes_its_texts() -> None:
    plot = plot_bars("x", "a <b>", ["<i>", "c", "d"], [None, 0, 12_345])
    tree = ET.fromstring(plot)
    titles = [node.text for node in tree.iter("title")]
    assert titles == ["a <b>", "d: 12,345"]
    assert "Highest: 12,345 at d" in describe(["<i>", "c", "d"], [None, 0, 12_345])
    assert describe([], []) == "No numbers yet."
    ET.fromstring(plot_bars("x", "empty", [], []))


def test_stats_command(
    index_db: str, counted: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGWORLD_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", index_db)

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, ["stats", *words])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    assert "Activity by hour" in run()
    assert run("languages", "--format", "csv") == "language,posts\nen,1\n"
    assert json.loads(run("hosts", "--format", "json")) == {
        "table": "hosts",
        "host": "pds.test",
        "accounts": 7,
    }
    result = CliRunner().invoke(app, ["stats", "x"])
    assert "there is no table x" in str(result.exception)
