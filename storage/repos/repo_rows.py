"""Followed repos: their states, and the queue of those that must be fetched.

A repo is `desynchronized` (it differs from its host's), `resyncing` (leased to a
worker) or `synchronized` (each commit follows from the last). Whether its account is
shown depends on `actor`, not on this state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg.rows import class_row

from protocol.syntax.did import Did
from protocol.syntax.tid import Tid
from storage.hosts.host_rows import lock_hosts
from storage.postgres.pool import Conn

_HOST_LOOKAHEAD: Final = 2_000
# Upstream statuses of accounts whose repo cannot be fetched.
_GONE: Final = ("deleted", "takendown", "suspended", "deactivated")


@dataclass(frozen=True, slots=True)
class KnownRepo:
    """An admitted repo. `status` is the upstream status of its account."""

    actor: int
    did: Did
    host: int | None
    state: str
    rev: Tid | None
    status: str


@dataclass(frozen=True, slots=True)
class ListedRepo:
    """One line of a host's listRepos."""

    did: Did
    rev: Tid
    active: bool
    status: str | None


@dataclass(frozen=True, slots=True)
class ClaimedRepo:
    """A repo leased for fetching at `claimed_at`.

    `rev` is the newest stored one, `selection` its kept collections
    (storage.repos.selections).
    """

    actor: int
    did: Did
    host: int
    rev: Tid | None
    tries: int
    claimed_at: datetime
    selection: int | None = None


def find_repos(conn: Conn, dids: Iterable[str]) -> dict[Did, KnownRepo]:
    """Return the admitted repos among these DIDs."""
    with conn.cursor(row_factory=class_row(KnownRepo)) as cursor:
        cursor.execute(
            """
            SELECT actor.id AS actor, did, host, state, rev, upstream_status AS status
            FROM actor JOIN repo ON repo.actor = actor.id WHERE did = ANY(%s)
            """,
            (list(dids),),
        )
        return {repo.did: repo for repo in cursor}


def find_returning(conn: Conn, dids: Iterable[str]) -> set[str]:
    """Return those of these DIDs that were admitted before and left with the scope."""
    rows = conn.execute(
        "SELECT did FROM actor WHERE did = ANY(%s) AND was_here", (list(dids),)
    )
    return {row[0] for row in rows}


def has_ended(conn: Conn, did: str) -> bool:
    """Return True if this account is known and not active."""
    row = conn.execute(
        "SELECT upstream_status <> 'active' FROM actor WHERE did = %s", (did,)
    ).fetchone()
    return row is not None and bool(row[0])


def add_repos(conn: Conn, host: int, dids: Sequence[str], *, wait: float = 0.0) -> int:
    """Admit repos, to be fetched in `wait` seconds; return the number of new ones.

    Does not commit. Sorted, so that two transactions cannot deadlock.
    """
    wanted = sorted(set(dids))
    conn.execute(
        "INSERT INTO actor (did) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING",
        (wanted,),
    )
    return conn.execute(
        """
        INSERT INTO repo (actor, host, next_try, hidden)
        SELECT id, %s, now() + make_interval(secs => %s), upstream_status <> 'active'
        FROM actor WHERE did = ANY(%s) ORDER BY id
        ON CONFLICT DO NOTHING
        """,
        (host, wait, wanted),
    ).rowcount


def move_repos(conn: Conn, moves: Sequence[tuple[str, int]]) -> int:
    """Move DIDs to other hosts: (DID, new host) pairs. They count there from now on.

    A synchronized repo stays so: a broken chain shows at the next commit. The revs that
    the old host announced are dropped: they may be false, and then no fetch from the
    new host would be new enough.
    """
    if not moves:
        return 0
    moved = conn.execute(
        """
        WITH moved AS (
            SELECT repo.actor, repo.host AS before, t.host AS after
            FROM unnest(%s::text[], %s::int4[]) AS t (did, host)
            JOIN actor ON actor.did = t.did JOIN repo ON repo.actor = actor.id
            WHERE repo.host IS DISTINCT FROM t.host
            ORDER BY repo.actor FOR NO KEY UPDATE OF repo
        )
        UPDATE repo SET host = after, tries = 0, upstream_rev = NULL,
            next_try = CASE WHEN state = 'synchronized' THEN next_try ELSE now() END
        FROM moved WHERE repo.actor = moved.actor
        RETURNING before, after
        """,
        ([did for did, _ in moves], [host for _, host in moves]),
    ).fetchall()
    gained = Counter(after for _, after in moved)
    gained.subtract(before for before, _ in moved if before is not None)
    change = {host: n for host, n in gained.items() if n}
    if change:
        lock_hosts(conn, change)
        conn.execute(
            """
            UPDATE host SET accounts = greatest(0, accounts + n)
            FROM unnest(%s::int4[], %s::int4[]) AS t (id, n) WHERE host.id = t.id
            """,
            (list(change), list(change.values())),
        )
    return len(moved)


def note_upstream(conn: Conn, host: int, listed: Sequence[ListedRepo]) -> list[Did]:
    """Save the revs that a host listed; return the repos that are behind them.

    Only repos of this host count. Commits of a repo that is behind may be on their way,
    so the caller decides when to call `mark_behind`.
    """
    rows = conn.execute(
        """
        UPDATE repo SET upstream_rev = greatest(upstream_rev, t.rev COLLATE "C")
        FROM unnest(%s::text[], %s::text[]) AS t (did, rev), actor
        WHERE actor.did = t.did AND repo.actor = actor.id AND repo.host = %s
        RETURNING actor.did,
            repo.state = 'synchronized'
            AND (repo.rev IS NULL OR repo.rev < t.rev COLLATE "C")
        """,
        ([repo.did for repo in listed], [repo.rev for repo in listed], host),
    )
    return [did for did, behind in rows if behind]


def note_newer(conn: Conn, did: str, rev: str) -> None:
    """Store a revision that the host of a repo sent, and queue the repo if it is
    behind. A fetch that is under way must reach the revision."""
    conn.execute(
        """
        UPDATE repo SET upstream_rev = greatest(upstream_rev, %(rev)s COLLATE "C"),
            state = CASE WHEN behind THEN 'desynchronized' ELSE state END,
            next_try = CASE WHEN behind THEN now() ELSE next_try END,
            tries = CASE WHEN behind THEN 0 ELSE tries END,
            error = CASE WHEN behind THEN 'the host has a newer rev' ELSE error END
        FROM (
            SELECT repo.actor AS id, state = 'synchronized'
                AND coalesce(rev < %(rev)s COLLATE "C", true) AS behind
            FROM actor JOIN repo ON repo.actor = actor.id
            WHERE did = %(did)s FOR NO KEY UPDATE OF repo
        ) AS held
        WHERE repo.actor = held.id
        """,
        {"did": did, "rev": rev},
    )


def mark_behind(conn: Conn, dids: Sequence[str]) -> int:
    """Queue those of these repos that are still behind their host's rev."""
    return conn.execute(
        """
        UPDATE repo SET state = 'desynchronized', next_try = now(), tries = 0,
            error = 'the host has a newer rev'
        FROM actor
        WHERE actor.did = ANY(%s) AND repo.actor = actor.id
          AND state = 'synchronized' AND rev < upstream_rev COLLATE "C"
        """,
        (list(dids),),
    ).rowcount


def mark_desynchronized(
    conn: Conn, dids: Sequence[str], error: str, *, wait: float = 0.0
) -> int:
    """Queue these repos for fetching in `wait` seconds, at any rev.

    Repos that are being fetched are fetched again: the running fetch may be older than
    the reason.
    """
    return conn.execute(
        """
        UPDATE repo SET state = 'desynchronized', tries = 0,
            next_try = now() + make_interval(secs => %s),
            upstream_rev = CASE WHEN state = 'synchronized' THEN upstream_rev END,
            error = %s
        FROM actor
        WHERE actor.did = ANY(%s) AND repo.actor = actor.id
          AND (state <> 'desynchronized' OR lease_until > now())
        """,
        (wait, error, list(dids)),
    ).rowcount


def claim_repos(
    conn: Conn,
    *,
    limit: int,
    lease_s: float,
    per_host: int,
    skip_hosts: Iterable[int] = (),
) -> list[ClaimedRepo]:
    """Lease up to `limit` repos that must be fetched, at most `per_host` of each host.

    A claimed repo is `resyncing`, and its live commits are buffered. One whose lease
    ran out is free again. Commit at once. Serialized: concurrent claimers would select
    the same rows.
    """
    conn.execute("SELECT pg_advisory_xact_lock(hashtext('claim_repos'))")
    with conn.cursor(row_factory=class_row(ClaimedRepo)) as cursor:
        cursor.execute(
            """
            WITH due AS (
                SELECT actor, host, next_try FROM repo
                WHERE state <> 'synchronized' AND next_try <= now()
                  AND (lease_until IS NULL OR lease_until <= now())
                  AND host <> ALL(%(skip)s)
                  AND host NOT IN (
                      SELECT id FROM host WHERE state IN ('banned', 'throttled')
                          OR rate_limited_until > now())
                ORDER BY next_try LIMIT %(ahead)s
            ), fair AS (
                -- Inactive accounts take no places of others.
                SELECT actor,
                    row_number() OVER (PARTITION BY host ORDER BY next_try) AS place
                FROM due JOIN actor ON actor.id = actor
                WHERE upstream_status <> ALL(%(gone)s)
            ), picked AS (
                SELECT repo.actor, actor.did
                FROM fair JOIN repo ON repo.actor = fair.actor
                JOIN actor ON actor.id = repo.actor
                WHERE place <= %(per_host)s AND repo.state <> 'synchronized'
                  AND (repo.lease_until IS NULL OR repo.lease_until <= now())
                  AND actor.upstream_status <> ALL(%(gone)s)
                ORDER BY repo.next_try LIMIT %(limit)s
                FOR UPDATE OF repo SKIP LOCKED
            )
            UPDATE repo SET state = 'resyncing',
                lease_until = now() + make_interval(secs => %(lease_s)s)
            FROM picked WHERE repo.actor = picked.actor
            RETURNING repo.actor, picked.did, repo.host, repo.rev, repo.tries,
                now() AS claimed_at, repo.selection
            """,
            {
                "skip": list(skip_hosts),
                "gone": list(_GONE),
                "ahead": _HOST_LOOKAHEAD,
                "per_host": per_host,
                "limit": limit,
                "lease_s": lease_s,
            },
        )
        return cursor.fetchall()


def rest_gone(conn: Conn, *, wait: float) -> int:
    """Postpone repos of inactive accounts, so that they do not fill the queue's front.

    Returns their number, at most 1,000. `wake_repos` brings them back.
    """
    return conn.execute(
        """
        UPDATE repo SET next_try = now() + make_interval(secs => %s)
        WHERE actor IN (
            SELECT actor FROM repo JOIN actor ON actor.id = repo.actor
            WHERE state <> 'synchronized' AND next_try <= now()
              AND upstream_status = ANY(%s)
            LIMIT 1000 FOR UPDATE OF repo SKIP LOCKED
        )
        """,
        (wait, list(_GONE)),
    ).rowcount


def wake_repos(conn: Conn, dids: Sequence[str]) -> int:
    """Make postponed repos due now: their accounts are active again."""
    return conn.execute(
        """
        UPDATE repo SET next_try = now(), tries = 0 FROM actor
        WHERE actor.did = ANY(%s) AND repo.actor = actor.id
          AND state <> 'synchronized' AND next_try > now() + interval '1 minute'
        """,
        (list(dids),),
    ).rowcount


def renew_lease(conn: Conn, actor: int, lease_s: float) -> None:
    """Keep a claimed repo for another `lease_s` seconds."""
    conn.execute(
        "UPDATE repo SET lease_until = now() + make_interval(secs => %s)"
        " WHERE actor = %s AND state = 'resyncing'",
        (lease_s, actor),
    )


def give_back(
    conn: Conn, actor: int, error: str, *, wait: float, failed: bool = True
) -> None:
    """Return a claimed repo to the queue, to be tried again in `wait` seconds.

    `failed` counts a try; a Retry-After of the host is no failure. Of a repo that was
    desynchronized meanwhile only the lease ends.
    """
    conn.execute(
        "UPDATE repo SET lease_until = NULL"
        " WHERE actor = %s AND state = 'desynchronized'",
        (actor,),
    )
    conn.execute(
        """
        UPDATE repo SET state = 'desynchronized', lease_until = NULL, error = %s,
            tries = tries + %s, next_try = now() + make_interval(secs => %s)
        WHERE actor = %s AND state = 'resyncing'
        """,
        (error[:500].replace("\0", ""), int(failed), wait, actor),
    )


def count_states(conn: Conn) -> dict[str, int]:
    """Return state -> number of repos."""
    rows = conn.execute("SELECT state, count(*) FROM repo GROUP BY state")
    return dict(rows.fetchall())
