"""The benchmarks: what they promise to programs, and that they notice their faults."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg_pool import ConnectionPool
from rich.console import Console

from bench.command import BenchName, load_bench, run
from bench.disk import measure_disk
from bench.fake_accounts import LIKE, FakeAccounts
from bench.fake_host import Frames, read_frames, write_frames
from bench.floor import copy_rate, signature_rate
from bench.index import Index, LostError, check_repos, import_repos
from bench.metric import Metric, median, quantile
from bench.process import MemoryWatch, cpu_seconds
from bench.report import to_line, to_table
from crawler.settings import CrawlSettings
from indexer.index_writer import IndexWriter
from protocol.data.cbor import decode
from storage.postgres.pool import open_pool
from storage.records.interning import Interner

PROMISED = {
    "verify": {"commits_per_s_per_core"},
    "import": {"records_per_s_per_core", "peak_mib"},
    "ingest": {"commits_per_s", "records_per_s", "bytes_per_link", "bytes_per_record"},
    "backfill": {"records_per_s", "peak_mib"},
    "relevance": {"bm25_ndcg10", "postgres_ndcg10", "postgres_typo_time"},
    "search": {"indexed_per_server_cpu_s", "bytes_per_post", "top_right"},
    "feeds": {
        "matching_share",
        "for_you_warm_s",
        "for_you_p99_ms",
        "for_you_next_p99_ms",
        "skeleton_latest_p99_ms",
        "feed_latest_p99_ms",
        "provider_mib",
    },
    "pds": {"create_record_per_s", "apply_writes_per_s", "create_record_crowded_per_s"},
    "export": {"records_per_s", "increment_s", "slowest_question_s"},
    "matches": {"matches_per_s", "applied_to_matched_p99_s"},
    "serve": {
        "search_recent_p99_ms",
        "search_top_p99_ms",
        "typeahead_p99_ms",
        "feed_p99_ms",
        "freshness_p99_ms",
        "timeline_p99_ms",
        "author_feed_p99_ms",
        "thread_p99_ms",
        "thread_v2_p99_ms",
        "profile_p99_ms",
        "profiles_p99_ms",
        "notifications_p99_ms",
        "own_feed_p99_ms",
        "found_posts_p99_ms",
        "followers_p99_ms",
    },
}
SLOW = {"feeds", "search", "serve"}
FIELDS = ["bench", "metric", "value", "unit", "floor", "ratio"]


class Silence:
    def count(self, what: str, done: int, total: int) -> None:
        assert 0 <= done <= total, what


@pytest.fixture
def index(index_db: str) -> Iterator[Index]:
    with open_pool(index_db, max=4) as pool, open_pool(index_db, max=2) as names:
        sink = IndexWriter(pool, Interner(names), lambda: None)
        yield Index(index_db, pool, names, sink, CrawlSettings(dev=True))


def size_of(pool: ConnectionPool, parent: str) -> int:
    """Return the size of all partitions with their indexes."""
    with pool.connection() as conn:
        row = conn.execute(
            "SELECT sum(pg_table_size(c) + pg_indexes_size(c)) FROM "
            "(SELECT inhrelid::regclass AS c FROM pg_inherits "
            "WHERE inhparent = %s::regclass UNION ALL "
            "SELECT %s::regclass WHERE NOT EXISTS (SELECT FROM pg_inherits "
            "WHERE inhparent = %s::regclass)) AS parts",
            (parent, parent, parent),
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_metric_has_a_ratio() -> None:
    assert Metric("b", "m", 50.0, "x/s", 200.0).ratio == 0.25
    assert Metric("b", "m", 50.0, "x/s").ratio is None


def test_quantile_returns_a_value_of_the_sample() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert quantile(values, 0.99) == 100.0
    assert quantile(values, 0.5) == 51.0
    assert quantile([7.0], 0.99) == 7.0
    assert median([1.0, 9.0, 2.0]) == 2.0


def test_to_line_has_six_fields() -> None:
    full = json.loads(to_line(Metric("verify", "rate", 1234.5678, "x/s", 4000.0)))
    assert list(full) == FIELDS
    assert full == {
        "bench": "verify",
        "metric": "rate",
        "value": 1235.0,
        "unit": "x/s",
        "floor": 4000.0,
        "ratio": 0.3086,
    }
    bare = json.loads(to_line(Metric("verify", "rate", 1.0, "x/s")))
    assert bare["floor"] is None
    assert bare["ratio"] is None


def test_to_table_shows_every_figure() -> None:
    console = Console(width=120, record=True)
    console.print(
        to_table(
            [
                Metric("ingest", "commits_per_s", 3210.9, "commits/s", 18_000.0),
                Metric("serve", "feed_p99_ms", 12.34, "ms"),
            ]
        )
    )
    text = console.export_text()
    for cell in ("commits_per_s", "3,211", "18,000", "0.178", "feed_p99_ms", "12.3"):
        assert cell in text


def test_read_frames_returns_written_frames(tmp_path: Path) -> None:
    frames = [b"", b"one", bytes(70_000)]
    assert list(read_frames(tmp_path)) == []
    write_frames(tmp_path, frames)
    assert list(read_frames(tmp_path)) == frames


def test_frames_after_a_cursor() -> None:
    async def look() -> None:
        frames = Frames([b"a", b"b", b"c"])
        assert await frames.events_after(0, 2) == [(1, b"a"), (2, b"b")]
        assert await frames.events_after(2, 9) == [(3, b"c")]
        frames.add(b"d")
        assert (await frames.oldest(), await frames.tail()) == (1, 4)
        assert await frames.events_after(3, 9) == [(4, b"d")]
        assert (await Frames().oldest(), await Frames().tail()) == (0, 0)

    asyncio.run(look())


def test_signature_rate_is_plausible() -> None:
    society = FakeAccounts(4, records=20)
    frames = list(society.frames(40, others=False))
    assert 1_000 < signature_rate(frames, society.keys) < 1_000_000


def test_memory_watch_sees_an_allocation() -> None:
    with MemoryWatch() as watch:
        taken = bytearray(b"x" * (64 << 20))
    assert 60 <= watch.risen_mib < 200
    assert taken


def test_cpu_seconds_counts_the_backends(index: Index) -> None:
    with index.pool.connection() as conn:
        before = cpu_seconds()
        conn.execute("SELECT count(*) FROM generate_series(1, 3000000)")
        used = cpu_seconds().since(before)
    assert 0.01 < used.server < 60
    assert used.upkeep < used.server
    assert used.others == 0


def test_cpu_seconds_counts_ended_backends_as_upkeep(index: Index) -> None:
    before = cpu_seconds()
    with psycopg.connect(index.url) as conn:
        conn.execute("SELECT count(*) FROM generate_series(1, 3000000)")
    end = time.monotonic() + 20
    while cpu_seconds().since(before).upkeep < 0.01:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_measure_disk_includes_indexes(index: Index) -> None:
    society = FakeAccounts(4, records=60)
    import_repos(index, society, Silence())
    link, record = measure_disk(index, "ingest")
    records = sum(len(member.records) for member in society.members)
    # An account that likes a post twice has one edge.
    likes = len(
        {
            (member.did, str(decode(value)["subject"]))  # type: ignore[call-overload, index]
            for member in society.members
            for key, value in member.records.items()
            if key.startswith(LIKE.encode())
        }
    )
    assert link.value == pytest.approx(size_of(index.pool, "link_like") / likes)
    assert record.value == pytest.approx(size_of(index.pool, "record") / records)
    # The floor is what a row itself takes: less than with its page and indexes.
    assert link.floor is not None
    assert 32 <= link.floor < link.value
    assert record.floor is not None
    assert 20 <= record.floor < record.value
    assert copy_rate(index) > 100
    # Nothing that was copied stays.
    assert index.ask("SELECT count(*) FROM pg_class WHERE relname ~ '^copied_'") == 0


def test_check_repos_refuses_a_run_with_losses(index: Index) -> None:
    society = FakeAccounts(3, records=20)
    import_repos(index, society, Silence())
    check_repos(index, society.members)
    unsent = list(society.frames(5, others=False))
    assert unsent
    with pytest.raises(LostError):
        check_repos(index, society.members)
    with pytest.raises(LostError):
        check_repos(index, FakeAccounts(4, seed=9, records=5).members)


def test_every_benchmark_has_a_name() -> None:
    assert {name.value for name in BenchName} == set(PROMISED)
    for name in BenchName:
        assert name.value == load_bench(name).BENCH


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        # Of these the quick run takes half a minute or more.
        pytest.param(name, marks=[pytest.mark.long] if name in SLOW else [])
        for name in PROMISED
    ],
)
def test_quick_run_has_the_promised_metrics(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run([name], quick=True, as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["metric"] for line in lines} >= PROMISED[name]
    for line in lines:
        assert list(line) == FIELDS
        assert line["bench"] == name
        assert line["floor"] is None or line["floor"] > 0
        # The rest after stages that were timed apart may be noise below zero.
        assert line["value"] >= 0 or line["metric"] == "rest_us"
