"""The cost of a host report, independent of the number of accounts."""

from __future__ import annotations

import pytest

from indexer.account import save_statuses
from storage.hosts import host_rows
from storage.hosts.host_report import HostReport, host_report
from storage.postgres.pool import Conn
from storage.repos import repo_rows

NAME = "large.example.com"
_ACCOUNTS = 20_000
_MOST = 100


def rows_read(conn: Conn) -> int:
    """Return the rows of accounts and repos read by this transaction."""
    row = conn.execute(
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::int8"
        " FROM pg_stat_xact_user_tables WHERE relname IN ('repo', 'actor')"
    ).fetchone()
    assert row is not None
    return int(row[0] or 0)


def fill(conn: Conn, host: int, *, waiting: int, hidden: int) -> None:
    conn.execute(
        """
        WITH made AS (
            INSERT INTO actor (did, upstream_status)
            SELECT 'did:plc:' || n,
                CASE WHEN n <= %(hidden)s THEN 'deactivated' ELSE 'active' END
            FROM generate_series(1, %(all)s) n RETURNING id, upstream_status
        )
        INSERT INTO repo (actor, host, state, error, hidden)
        SELECT id, %(host)s,
            CASE WHEN n <= %(waiting)s THEN 'desynchronized' ELSE 'synchronized' END,
            'getRepo: 502', upstream_status <> 'active'
        FROM (SELECT *, row_number() OVER (ORDER BY id) AS n FROM made) made
        """,
        {"hidden": hidden, "waiting": waiting, "all": _ACCOUNTS, "host": host},
    )
    conn.commit()
    conn.execute("ANALYZE repo; ANALYZE actor")
    conn.commit()


@pytest.mark.parametrize(
    ("waiting", "hidden"), [(3, 4), (_ACCOUNTS, _ACCOUNTS), (3, _ACCOUNTS)]
)
def test_report_of_large_host_is_bounded(conn: Conn, waiting: int, hidden: int) -> None:
    host, _ = host_rows.put_host(conn, NAME, f"https://{NAME}", source="request_crawl")
    fill(conn, host, waiting=waiting, hidden=hidden)
    before = rows_read(conn)
    report = host_report(conn, NAME, most=_MOST)
    assert rows_read(conn) - before <= 5 * _MOST
    assert report is not None
    assert report.facts.waiting_repos == min(waiting, _MOST + 1)
    assert report.facts.hidden_accounts == min(hidden, _MOST + 1)
    assert report.failures[0].repos == min(waiting, _MOST + 1)
    whole = host_report(conn, NAME)
    assert whole is not None
    assert (whole.facts.waiting_repos, whole.facts.hidden_accounts) == (waiting, hidden)


def test_report_counts_hidden_accounts(conn: Conn) -> None:
    host, _ = host_rows.put_host(conn, NAME, f"https://{NAME}", source="request_crawl")

    def hidden() -> int:
        report: HostReport | None = host_report(conn, NAME)
        assert report is not None
        return report.facts.hidden_accounts

    # An account that was hidden before its repo was admitted (again).
    conn.execute(
        "INSERT INTO actor (did, upstream_status) VALUES ('did:plc:b', 'suspended')"
    )
    repo_rows.add_repos(conn, host, ["did:plc:a", "did:plc:b", "did:plc:c"])
    actors = dict(conn.execute("SELECT did, id FROM actor").fetchall())
    assert hidden() == 1
    save_statuses(conn, {actors["did:plc:a"]: "deleted"})
    assert hidden() == 2
    save_statuses(conn, {actors["did:plc:a"]: "deactivated"})
    assert hidden() == 2
    save_statuses(conn, {actor: "active" for actor in actors.values()})
    assert hidden() == 0
