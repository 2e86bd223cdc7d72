"""Search of the postgres engine over many made-up posts: time, CPU and exactness.

The floor of a figure is that of the plain form: one table, a GIN index, and the order
of time in SQL.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any, Final

import psycopg

from bench.index import Index, open_index
from bench.metric import Metric, Progress, quantile
from bench.process import cpu_seconds
from bench.search.copies import multiply
from bench.search.posts import Posts
from bench.search.queries import Kind, Workload, make_workload
from search.engines.contract import TooCostlyError
from search.engines.postgres import PostgresEngine
from search.query.nodes import Query
from search.query.parser import parse_query
from storage.collections import COLLECTION_IDS, FEED_POST
from storage.postgres.copy import copy_rows
from storage.postgres.pool import Conn

BENCH: Final = "search"
_POSTS: Final = 30_000
_QUICK_POSTS: Final = 3_000
_COPIED: Final = 500_000
_BATCH: Final = 500
_REQUESTS: Final = 60
_PAGE: Final = 25
_DEEP_PAGES: Final = 200
_FRESH_S: Final = 10.0
_FRESH_RATE: Final = 200
_POST: Final = COLLECTION_IDS[FEED_POST]


def run(quick: bool, progress: Progress, posts: int = 0) -> list[Metric]:
    """Fill an index with posts, then search it."""
    count = posts or (_QUICK_POSTS if quick else _POSTS)
    part = count * 3 // 10
    # Above this size, posts are copied ten times.
    times = 10 if count >= _COPIED else 1
    made = Posts()
    with open_index() as index:
        engine = PostgresEngine(index.pool)
        _add_accounts(index, engine, made)
        filled = count // times if times > 1 else part
        seconds, cpu = _fill(index, engine, made, 0, filled, progress)
        metrics = [
            Metric(BENCH, "indexed_per_server_cpu_s", filled / cpu, "posts/s"),
            Metric(BENCH, "indexed_per_s", filled / seconds, "posts/s"),
        ]
        if times > 1:
            multiply(index, 1, 3, progress)
        index.settle()
        workload = make_workload(index, made)
        before = _measure(index, engine, workload, progress)
        if times > 1:
            multiply(index, 3, times, progress)
        else:
            _fill(index, engine, made, part, count, progress)
        index.settle()
        metrics.append(Metric(BENCH, "bytes_per_post", _size(index) / count, "bytes"))
        metrics += _measure_freshness(index, engine, made, count)
        workload = make_workload(index, made)
        after = _measure(index, engine, workload, progress)
        metrics += _measure_pages(index, engine, workload)
        metrics.append(_measure_top(index, engine, workload))
        _make_plain(index)
        plain = _measure_plain(index, workload)
    for name, (p50, p99, cpu_ms) in after.items():
        base = plain.get(name)
        for label, value, i in (("p50", p50, 0), ("p99", p99, 1), ("cpu", cpu_ms, 2)):
            # Small runs use less CPU than the clock can tell.
            floor = base[i] or None if base else None
            metrics.append(Metric(BENCH, f"{name}_{label}_ms", value, "ms", floor))
        growth = cpu_ms / before[name][2] if before[name][2] else 0.0
        metrics.append(Metric(BENCH, f"{name}_growth", growth, "times CPU at 30 %"))
    return metrics


Timed = dict[str, tuple[float, float, float]]
"""Name -> p50 and p99 in ms, and ms of server CPU of each query."""


def _add_accounts(index: Index, engine: PostgresEngine, made: Posts) -> None:
    accounts = [*made.accounts()]
    with index.pool.connection() as conn:
        rows = [(a.actor, a.did, a.handle) for a in accounts]
        kinds = ("int4", "text", "text")
        copy_rows(conn, "actor", ("id", "did", "handle"), kinds, rows)
        counts = [(a.actor, a.followers) for a in accounts]
        copy_rows(conn, "actor_stats", ("actor", "followers"), kinds[:1] * 2, counts)
        engine.put(conn, accounts)


def _fill(
    index: Index,
    engine: PostgresEngine,
    made: Posts,
    first: int,
    last: int,
    progress: Progress,
) -> tuple[float, float]:
    """Index posts; return the seconds, and the CPU seconds of the server."""
    spent = 0.0
    before = cpu_seconds()
    posts = made.posts(first + 1, last + 1)
    done = first
    while batch := [*islice(posts, _BATCH)]:
        started = time.perf_counter()
        with index.pool.connection() as conn:
            engine.put(conn, batch)
            liked = [
                (d.address.actor, d.address.rkey, d.likes) for d in batch if d.likes
            ]
            copy_rows(
                conn,
                "post_stats",
                ("actor", "rkey", "likes"),
                ("int4", "int8", "int4"),
                liked,
            )
        spent += time.perf_counter() - started
        done += len(batch)
        progress.count("posts", done, last)
    return spent, cpu_seconds().since(before).server


def _size(index: Index) -> int:
    return int(
        index.ask(
            "SELECT sum(pg_total_relation_size(oid))::int8 FROM pg_class"
            " WHERE relname ~ '^search_(document_|word|slice)' AND relkind = 'r'"
        )
    )


def _parse(text: str, sort: Any) -> Query:
    query = parse_query(text, resolve_handle=lambda _: None)
    return replace(query, sort=sort)


def _ask(
    engine: PostgresEngine, kind: Kind, text: str, after: list[Any] | None = None
) -> list[Any]:
    if kind.sort == "accounts":
        return [*engine.typeahead(text, limit=10)]
    page = engine.search_records(
        _parse(text, kind.sort), collections=[_POST], limit=_PAGE, after=after
    )
    return page.hits


def _time(work: Callable[[str], Any], texts: Sequence[str]) -> tuple[float, ...]:
    """Return p50 and p99 in ms, and ms of server CPU of each call."""
    for text in texts[:5]:
        work(text)
    seconds: list[float] = []
    before = cpu_seconds()
    for text in texts:
        started = time.perf_counter()
        with suppress(TooCostlyError):
            work(text)
        seconds.append(time.perf_counter() - started)
    used = cpu_seconds().since(before).server
    return (
        quantile(seconds, 0.5) * 1e3,
        quantile(seconds, 0.99) * 1e3,
        used / len(texts) * 1e3,
    )


def _measure(
    index: Index, engine: PostgresEngine, workload: Workload, progress: Progress
) -> Timed:
    found: Timed = {}
    for done, (kind, texts) in enumerate(workload.items(), 1):
        asked = [texts[i % len(texts)] for i in range(_REQUESTS)]
        p50, p99, cpu = _time(lambda text, k=kind: _ask(engine, k, text), asked)  # type: ignore[misc]
        found[kind.name] = p50, p99, cpu
        progress.count("kinds", done, len(workload))
    return found


def _measure_pages(
    index: Index, engine: PostgresEngine, workload: Workload
) -> list[Metric]:
    """Return the time of page 2 and of a deep page, as floor and value."""
    metrics = []
    for name in ("latest_common", "latest_mid", "top_common"):
        kind = next(kind for kind in workload if kind.name == name)
        after, seconds = None, [0.0]
        for _ in range(_DEEP_PAGES):
            started = time.perf_counter()
            hits = _ask(engine, kind, workload[kind][0], after)
            seconds.append(time.perf_counter() - started)
            if len(hits) < _PAGE:
                break
            after = hits[-1].keyset
        deep, early = seconds[-20:], seconds[2:12] or [1.0]
        metrics.append(
            Metric(
                BENCH,
                f"{name}_page_{len(seconds) - 1}_ms",
                quantile(deep, 0.5) * 1e3,
                "ms",
                quantile(early, 0.5) * 1e3,
            )
        )
    return metrics


def _measure_top(index: Index, engine: PostgresEngine, workload: Workload) -> Metric:
    """Return the share of the most liked matches on the first page of "top"."""
    right = whole = 0
    for kind, texts in workload.items():
        if kind.sort != "top" or " " in texts[0]:
            continue
        for text in texts[:10]:
            with index.pool.connection() as conn:
                best = conn.execute(
                    """
                    SELECT likes FROM search_document d JOIN post_stats s
                    ON s.actor = d.actor AND s.rkey = d.rkey
                    WHERE d.tsv @@ %s::tsquery ORDER BY likes DESC LIMIT %s
                    """,
                    (f"'{text}'", _PAGE),
                ).fetchall()
                tiers = sorted((_tier(likes) for (likes,) in best), reverse=True)
                keys = [hit.address for hit in _ask(engine, kind, text)]
                rows = conn.execute(
                    """
                    SELECT coalesce(likes, 0) FROM unnest(%s::int4[], %s::int8[])
                        AS x(actor, rkey)
                    LEFT JOIN post_stats s USING (actor, rkey)
                    """,
                    ([k.actor for k in keys], [k.rkey for k in keys]),
                ).fetchall()
            got = sorted((_tier(likes) for (likes,) in rows), reverse=True)
            right += sum(a >= b for a, b in zip(got, tiers, strict=False))
            whole += len(tiers)
    return Metric(BENCH, "top_right", right / max(1, whole), "of the first 25")


def _tier(likes: int) -> int:
    return sum(likes >= 4**power for power in range(1, 12))


def _measure_freshness(
    index: Index, engine: PostgresEngine, made: Posts, count: int
) -> list[Metric]:
    """Index posts at a rate; return the time from the due moment to the commit."""
    waits: list[float] = []
    total = int(_FRESH_RATE * min(_FRESH_S, count / _FRESH_RATE))
    posts = [*made.posts(count + 1, count + total + 1)]
    started = time.monotonic()
    done = 0
    while done < len(posts):
        due = int((time.monotonic() - started) * _FRESH_RATE)
        batch = posts[done : max(done, min(due, len(posts)))]
        if not batch:
            time.sleep(0.005)
            continue
        with index.pool.connection() as conn:
            engine.put(conn, batch)
        now = time.monotonic() - started
        waits += [now - (done + i) / _FRESH_RATE for i in range(len(batch))]
        done += len(batch)
    return [
        Metric(
            BENCH, f"put_to_found_p{share}_ms", quantile(waits, share / 100) * 1e3, "ms"
        )
        for share in (50, 99)
    ]


def _make_plain(index: Index) -> None:
    """Copy all documents to one table with the indexes of the plain form."""
    with psycopg.connect(index.url, autocommit=True) as conn:
        conn.execute("SET maintenance_work_mem = '512MB'")
        conn.execute("CREATE TABLE plain AS SELECT * FROM search_document")
        conn.execute("CREATE INDEX ON plain USING gin (tsv)")
        conn.execute("CREATE INDEX ON plain (collection, ts)")
        conn.execute("CREATE INDEX ON plain (actor, ts)")
        conn.execute("VACUUM ANALYZE plain")


def _measure_plain(index: Index, workload: Workload) -> Timed:
    found: Timed = {}
    with index.pool.connection() as conn:
        conn.execute("SET statement_timeout = '2s'")
        conn.commit()
        for kind, texts in workload.items():
            if not kind.plain:
                continue
            asked = [texts[i % len(texts)] for i in range(_REQUESTS // 3)]
            ask = _plain_query(conn, kind, kind.plain)
            p50, p99, cpu = _time(ask, asked)
            found[kind.name] = p50, p99, cpu
        conn.execute("SET statement_timeout = 0")
    return found


def _plain_query(
    conn: Conn, kind: Kind, words: Callable[[str], str]
) -> Callable[[str], Any]:
    latest = """
        SELECT actor, collection, rkey, ts FROM plain
        WHERE collection = ANY(%s) AND tsv @@ %s::tsquery
        ORDER BY ts DESC, actor DESC, collection DESC, rkey DESC LIMIT %s
    """
    top = """
        SELECT actor, rkey, coalesce(likes, 0) AS score FROM (
            SELECT actor, rkey FROM plain
            WHERE collection = ANY(%s) AND tsv @@ %s::tsquery
            ORDER BY ts DESC, actor DESC, collection DESC, rkey DESC LIMIT 5000
        ) d LEFT JOIN post_stats s USING (actor, rkey)
        ORDER BY score DESC, actor DESC, rkey DESC LIMIT %s
    """

    def ask(text: str) -> None:
        sql = top if kind.sort == "top" else latest
        with suppress(psycopg.errors.QueryCanceled), conn.transaction():
            conn.execute(sql, ([_POST], words(text), _PAGE)).fetchall()

    return ask
