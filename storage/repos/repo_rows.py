"""The repos we follow: their state, and the queue of those that must be fetched.

A repo is `desynchronized` (what we hold is not what its host holds), `resyncing`
(leased to a worker that fetches it) or `synchronized` (each commit follows from the
last). Whether its account is shown is a matter of `actor`, not of this state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg.rows import class_row

from protocol.syntax.did import Did
from protocol.syntax.tid import Tid
from storage.hosts.host_rows import lock_hosts

_HOST_LOOKAHEAD: Final = 2_000
# What the upstream says of accounts whose repo it does not give.
_GONE: Final = ("deleted", "takendown", "suspended", "deactivated")


@dataclass(frozen=True, slots=True)
class KnownRepo:
    """A repo that was let in. `status` is the upstream's word on its account."""

    actor: int
    did: Did
    host: int | None
    state: str
    rev: Tid | None
    status: str


@dataclass(frozen=True, slots=True)
class ListedRepo:
    """One line of a host's listRepos answer."""

    did: Did
    rev: Tid
    active: bool
    status: str | None


@dataclass(frozen=True, slots=True)
class ClaimedRepo:
    """A repo leased to us for fetching, at `claimed_at`. `rev` is the newest we hold,
    if any, and `selection` what of it (storage.repos.selections)."""

    actor: int
    did: Did
    host: int
    rev: Tid | None
    tries: int
    claimed_at: datetime
    selection: int | None = None


def find_repos(
    conn: psycopg.Connection[Any], dids: Iterable[str]
) -> dict[Did, KnownRepo]:
    """Return the repos among these DIDs that were let in."""
    with conn.cursor(row_factory=class_row(KnownRepo)) as cursor:
        cursor.execute(
            """
            SELECT actor.id AS actor, did, host, state, rev, upstream_status AS status
            FROM actor JOIN repo ON repo.actor = actor.id WHERE did = ANY(%s)
            """,
            (list(dids),),
        )
        return {repo.did: repo for repo in cursor}


def find_returning(conn: psycopg.Connection[Any], dids: Iterable[str]) -> set[str]:
    """Return those of these DIDs that were let in before, and left with the scope."""
    rows = conn.execute(
        "SELECT did FROM actor WHERE did = ANY(%s) AND was_here", (list(dids),)
    )
    return {row[0] for row in rows}


def has_ended(conn: psycopg.Connection[Any], did: str) -> bool:
    """Whether this account is known to be anything but active."""
    row = conn.execute(
        "SELECT upstream_status <> 'active' FROM actor WHERE did = %s", (did,)
    ).fetchone()
    return row is not None and bool(row[0])


def add_repos(
    conn: psycopg.Connection[Any],
    host: int,
    dids: Sequence[str],
    *,
    wait: float = 0.0,
) -> int:
    """Let repos in, to be fetched in `wait` seconds; return how many were new.

    Does not commit. Sorted, so that two transactions never wait for each other.
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


def move_repos(conn: psycopg.Connection[Any], moves: Sequence[tuple[str, int]]) -> int:
    """Note that DIDs live on other hosts now: (DID, new host) pairs. They count there
    from now on.

    What was synchronized stays so: a move keeps the repo, and a chain that breaks
    is seen at the next commit. What the old host told of is forgotten: it may never
    have been true, and then no fetch from the new one would ever be new enough.
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


def note_upstream(
    conn: psycopg.Connection[Any], host: int, listed: Sequence[ListedRepo]
) -> list[Did]:
    """Remember the revs a host told of; return the repos that are behind them.

    Only repos of that very host count: nobody speaks for another host's accounts. A
    repo that is behind may just have its commits on the way, so the caller decides
    when to call `mark_behind`.
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


def note_newer(conn: psycopg.Connection[Any], did: str, rev: str) -> None:
    """Remember a revision that the host of a repo sent, and queue the repo if it stands
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


def mark_behind(conn: psycopg.Connection[Any], dids: Sequence[str]) -> int:
    """Queue those of these repos that still stand behind their host's rev."""
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
    conn: psycopg.Connection[Any],
    dids: Sequence[str],
    error: str,
    *,
    wait: float = 0.0,
) -> int:
    """Queue these repos for fetching in `wait` seconds, whatever rev they hold; those
    that are fetched at the moment once more, since what comes may be older than what
    is in doubt."""
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
    conn: psycopg.Connection[Any],
    *,
    limit: int,
    lease_s: float,
    per_host: int,
    skip_hosts: Iterable[int] = (),
) -> list[ClaimedRepo]:
    """Lease repos that must be fetched: at most `limit`, `per_host` of each host.

    A claimed repo is `resyncing`; live commits are buffered from that moment on. One
    whose lease ran out is free again. Commit at once, so that the lease is seen: one
    claims at a time, or two would reach for the same and one go away empty.
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
                -- Who is gone takes no place of those who are there.
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


def rest_gone(conn: psycopg.Connection[Any], *, wait: float) -> int:
    """Put off repos whose account is gone, so that they do not stand at the front of
    the queue; return how many (at most 1,000). `wake_repos` brings them back."""
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


def wake_repos(conn: psycopg.Connection[Any], dids: Sequence[str]) -> int:
    """Have repos that were put off for long fetched now: their account is back."""
    return conn.execute(
        """
        UPDATE repo SET next_try = now(), tries = 0 FROM actor
        WHERE actor.did = ANY(%s) AND repo.actor = actor.id
          AND state <> 'synchronized' AND next_try > now() + interval '1 minute'
        """,
        (list(dids),),
    ).rowcount


def renew_lease(conn: psycopg.Connection[Any], actor: int, lease_s: float) -> None:
    """Keep a claimed repo for another `lease_s` seconds."""
    conn.execute(
        "UPDATE repo SET lease_until = now() + make_interval(secs => %s)"
        " WHERE actor = %s AND state = 'resyncing'",
        (lease_s, actor),
    )


def give_back(
    conn: psycopg.Connection[Any],
    actor: int,
    error: str,
    *,
    wait: float,
    failed: bool = True,
) -> None:
    """Return a claimed repo to the queue, to be tried again in `wait` seconds.

    `failed` counts a try; being asked to wait by the host is no failure. Of one that
    came into doubt meanwhile only the lease ends.
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


def count_states(conn: psycopg.Connection[Any]) -> dict[str, int]:
    """Return state -> number of repos, for the status page."""
    rows = conn.execute("SELECT state, count(*) FROM repo GROUP BY state")
    return dict(rows.fetchall())
