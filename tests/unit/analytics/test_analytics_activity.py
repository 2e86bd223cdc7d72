"""Activity counts against a recount of the rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from indexer_steps import assert_indexed, import_repo
from indexer_world import POST, Author, author, follow, like, post

from analytics.activity_rollups import count_active, find_miscounts, fold_activity
from audit.repo_audit import recount_stats
from storage.postgres.pool import Conn
from storage.records.interning import Interner

_DAYS = "SELECT kind, sum(records) FROM analytics.activity_days GROUP BY kind"


def days(conn: Conn) -> dict[str, int]:
    found = {kind: int(n) for kind, n in conn.execute(_DAYS)}
    conn.rollback()
    return {kind: n for kind, n in found.items() if n}


def two_authors(apply: Any) -> tuple[Author, Author, list[Any]]:
    a, b = author(1), author(2)
    path, first = a.write(POST, post("hello", langs=["en-GB", "en", "de", ""]))
    liking = like(a.uri(path))
    events = [
        first,
        b.write(liking["$type"], liking)[1],
        # A second like of one post does not count.
        b.write(liking["$type"], liking)[1],
        b.write("app.bsky.graph.follow", follow(a.did))[1],
    ]
    apply(*events)
    return a, b, events


def test_activity_counts_each_record_once(conn: Conn, apply: Any) -> None:
    _, _, events = two_authors(apply)
    assert days(conn) == {"posts": 1, "likes": 1, "follows": 1}
    assert fold_activity(conn) > 0
    conn.commit()
    # Events that come again, and sums that were folded, change nothing.
    apply(*events)
    assert days(conn) == {"posts": 1, "likes": 1, "follows": 1}
    langs = conn.execute("SELECT lang, posts FROM analytics.language_days ORDER BY 1")
    assert langs.fetchall() == [("de", 1), ("en", 1)]
    assert find_miscounts(conn) == []


def test_activity_follows_deletions_and_fetched_repos(
    conn: Conn, apply: Any, interner: Interner
) -> None:
    a, b, _ = two_authors(apply)
    fold_activity(conn)
    conn.commit()
    # The counted like goes, so that the other one counts.
    likes = sorted(path for path in b.records if "like" in path)
    apply(b.commit({likes[0]: None}))
    assert days(conn)["likes"] == 1
    apply(b.commit({likes[1]: None}))
    assert days(conn) == {"posts": 1, "follows": 1}
    old = {"text": "old", "createdAt": "1066-10-14T00:00:00Z", "$type": POST}
    a.write(POST, old)
    late = {"text": "late", "createdAt": "2148-01-01T00:00:00Z", "$type": POST}
    a.write(POST, late)
    apply(a.sync())
    import_repo(conn, interner, a)
    assert days(conn)["posts"] == 3
    first = conn.execute("SELECT min(day)::text FROM analytics.activity_days")
    assert first.fetchone() == ("2022-01-01",)
    conn.rollback()
    assert_indexed(conn, [a, b])
    assert recount_stats(conn).ok


def test_repair_corrects_wrong_activity(conn: Conn, apply: Any) -> None:
    two_authors(apply)
    conn.execute("DELETE FROM activity_change WHERE kind = 0")
    conn.execute("INSERT INTO activity_change VALUES (now(), 1, '', 5)")
    conn.commit()
    assert recount_stats(conn).wrong["activity"] == 2
    recount_stats(conn, repair=True)
    assert recount_stats(conn).ok


def test_active_accounts_are_distinct(conn: Conn, apply: Any) -> None:
    two_authors(apply)
    row = conn.execute("SELECT max(sort_at) FROM post").fetchone()
    assert row is not None
    now = row[0].astimezone(UTC)
    for _ in range(2):
        count_active(conn, now)
    active = dict(
        conn.execute("SELECT day::text, accounts FROM analytics.active_days").fetchall()
    )
    assert active[now.date().isoformat()] == 2
    assert active[(now - timedelta(days=1)).date().isoformat()] == 0
    # The days before are counted a few at a time.
    for _ in range(34):
        count_active(conn, now)
    assert conn.execute("SELECT count(*) FROM analytics.active_days").fetchone() == (
        34,
    )
    conn.rollback()


def test_fold_sums_changes_of_one_hour(conn: Conn) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for n in (2, 3, -5, 1):
        conn.execute("INSERT INTO activity_change VALUES (%s, 0, '', %s)", (at, n))
    conn.commit()
    assert fold_activity(conn) == 4
    rows = conn.execute("SELECT at, kind, key, n FROM activity").fetchall()
    assert rows == [(at, 0, "", 1)]
    assert fold_activity(conn) == 0
    conn.rollback()
