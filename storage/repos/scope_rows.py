"""What is to be indexed: one row that says which kind of scope, and the accounts of it
where it is not the whole network.

Accounts that join, and those that leave, get rising ids, so whoever keeps the accounts
in memory reads only the changes. `generation` rises when all of it is to be read anew:
when a scope is set, and when the list of who left grows long and is begun afresh.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, LiteralString

import psycopg

from storage.collections import GRAPH_FOLLOW
from storage.hosts.host_rows import load_hosts, lock_hosts
from storage.repos.selections import put_selection

SETTLE_S: Final = 3.0
"""Who joins is fetched so many seconds later: by then everybody lets its commits pass,
and none can be missing between the repo that was fetched and the stream."""

_DUE_PAGE: Final = 1_000
_DEPARTURES_KEPT: Final = 10_000

_OUTSIDE: Final = """
    FROM repo JOIN actor ON actor.id = repo.actor
    WHERE NOT EXISTS (SELECT FROM scope_account s WHERE s.did = actor.did)
"""


class UnkeptError(ValueError):
    """The scope rests on records that would not be kept."""


class ScopeKind(StrEnum):
    """How the accounts of the index are chosen."""

    NETWORK = "network"
    DIDS = "dids"
    FOLLOWS = "follows"
    COLLECTION = "collection"


@dataclass(frozen=True, slots=True)
class Scope:
    """`seeds` are the accounts that were named, `collections` the NSIDs. `settings` is
    the configuration that it was taken from, None if a command set it. `age_s` is how
    many seconds ago it was changed. Of each repo the collections `keep` are kept, all
    of it where there are none."""

    kind: ScopeKind = ScopeKind.NETWORK
    seeds: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    generation: int = 0
    settings: str | None = None
    changed_at: datetime | None = None
    age_s: float = float("inf")
    keep: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether every account belongs to it."""
        return self.kind is ScopeKind.NETWORK


_LATELY_S: Final = 600.0
# The first repos come in a bunch; their rate says nothing yet.
_BEGUN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class ScopeProgress:
    """How far the index is with its scope: numbers of its accounts. `wanted` is None
    while it is the whole network; `lately` were fetched in the last ten minutes, the
    first of them `lately_s` seconds ago.
    `outside` are others, that are to be removed. `synchronized` hold what is to be
    kept of them, `partial` of these chosen collections only."""

    wanted: int | None
    held: int
    synchronized: int
    gone: int
    lately: int
    outside: int
    partial: int = 0
    lately_s: float = _LATELY_S

    @property
    def total(self) -> int:
        """Accounts there will be, as far as is known."""
        return self.held if self.wanted is None else max(self.wanted, self.held)

    @property
    def done(self) -> int:
        """Accounts whose repo is here, or cannot be had any more."""
        return self.synchronized + self.gone

    @property
    def seconds_left(self) -> float | None:
        """At the rate of the last ten minutes, or since it began; None if nothing
        moves."""
        left = max(0, self.total - self.done)
        if left and not self.lately:
            return None
        span = min(_LATELY_S, max(_BEGUN_S, self.lately_s))
        return left * span / self.lately if left else 0.0


def load_scope(conn: psycopg.Connection[Any]) -> Scope:
    """What is to be indexed now. Without a row it is the whole network."""
    row = conn.execute(
        """
        SELECT kind, seeds, scope.collections, generation, settings, changed_at,
            extract(epoch FROM clock_timestamp() - changed_at)::float8,
            coalesce(s.collections, '{}')
        FROM scope LEFT JOIN selection s ON s.id = scope.selection
        """
    ).fetchone()
    if row is None:
        return Scope()
    kind, seeds, collections, generation, settings, changed_at, age_s, keep = row
    return Scope(
        ScopeKind(kind),
        tuple(seeds),
        tuple(collections),
        generation,
        settings,
        changed_at,
        age_s,
        tuple(keep),
    )


def check_keep(
    kind: ScopeKind, collections: Iterable[str], keep: Iterable[str]
) -> None:
    """Raise UnkeptError where the accounts could not be told from what is kept."""
    kept = set(keep)
    needed = {GRAPH_FOLLOW} if kind is ScopeKind.FOLLOWS else set(collections)
    if kept and not needed <= kept:
        missing = ", ".join(sorted(needed - kept))
        raise UnkeptError(f"the scope {kind} rests on {missing}: keep it too")


def set_scope(
    conn: psycopg.Connection[Any],
    kind: ScopeKind,
    *,
    seeds: Sequence[str] = (),
    collections: Sequence[str] = (),
    keep: Sequence[str] = (),
    settings: str | None = None,
) -> None:
    """Widen or narrow. Accounts that are not named leave until they are found again,
    but from follows to follows only once it is known that nobody follows them. The
    listings of all hosts are compared anew where more may be wanted. Where what is to
    be kept of a repo changes, every repo is held against it anew. `settings` None
    leaves what was noted. Raises UnkeptError. Does not commit.

    Rows are locked in the order of all who lock some of these: repos by their ids, the
    scope, hosts by their ids.
    """
    check_keep(kind, collections, keep)
    seeds = list(dict.fromkeys(seeds))
    selection = put_selection(conn, keep)
    before = load_scope(conn)
    if not before.whole:
        # Their commits were passed over, and they may be wanted again now.
        _mend(conn, f"SELECT repo.actor {_OUTSIDE}", ())
    conn.execute(
        """
        INSERT INTO scope (kind, seeds, collections, generation, settings, changed_at,
            selection, compared)
        VALUES (%(kind)s, %(seeds)s, %(collections)s, 1, %(settings)s, now(),
            %(selection)s, CASE WHEN %(selection)s::int4 IS NOT NULL THEN 0 END)
        ON CONFLICT (single) DO UPDATE SET kind = excluded.kind,
            seeds = excluded.seeds, collections = excluded.collections,
            selection = excluded.selection,
            compared = CASE WHEN scope.selection IS DISTINCT FROM excluded.selection
                THEN 0 ELSE scope.compared END,
            generation = scope.generation + 1, changed_at = now(),
            settings = coalesce(excluded.settings, scope.settings)
        """,
        {
            "kind": kind,
            "seeds": seeds,
            "collections": list(collections),
            "settings": settings,
            "selection": selection,
        },
    )
    if not (kind is ScopeKind.FOLLOWS and before.kind is kind):
        conn.execute("DELETE FROM scope_account WHERE did <> ALL(%s)", (seeds,))
    conn.execute("DELETE FROM scope_departure")
    # Else the keeper lets leave whom nobody follows any more, and nobody else.
    add_accounts(conn, seeds)
    if kind is ScopeKind.COLLECTION:
        _keep_holders(conn, collections)
    if kind is ScopeKind.NETWORK:
        lock_hosts(conn, load_hosts(conn))
        conn.execute(
            "UPDATE host SET listed_at = NULL, list_cursor = NULL, polled_at = NULL"
            " WHERE NOT relay"
        )


def _keep_holders(conn: psycopg.Connection[Any], collections: Sequence[str]) -> None:
    """Those whose records of the collections are here already."""
    conn.execute(
        """
        INSERT INTO scope_account (did)
        SELECT did FROM actor JOIN repo ON repo.actor = actor.id
        WHERE EXISTS (SELECT FROM record WHERE record.actor = actor.id
            AND collection IN (SELECT id FROM collection WHERE nsid = ANY(%s)))
        ON CONFLICT DO NOTHING
        """,
        (list(collections),),
    )


def hold_scope(conn: psycopg.Connection[Any], scope: Scope) -> bool:
    """Whether this is the scope still. If so, one that is set meanwhile waits for the
    caller's transaction."""
    row = conn.execute("SELECT changed_at FROM scope FOR SHARE").fetchone()
    return row == (scope.changed_at,)


def add_accounts(
    conn: psycopg.Connection[Any],
    dids: Iterable[str],
    *,
    mend: bool = False,
    scope: Scope | None = None,
) -> int:
    """Let accounts join; return how many were new. With `mend` their commits may have
    been passed over: a repo that is here already is fetched again. Where they were
    found for a `scope`, nobody joins another one. Does not commit."""
    if scope is not None and not hold_scope(conn, scope):
        return 0
    _number_in_order(conn)
    rows = conn.execute(
        "INSERT INTO scope_account (did, next_try)"
        " SELECT unnest(%s::text[]), now() + make_interval(secs => %s)"
        " ON CONFLICT DO NOTHING RETURNING did",
        (sorted(set(dids)), SETTLE_S),
    ).fetchall()
    if mend and rows:
        joined = [row[0] for row in rows]
        _mend(conn, "SELECT id FROM actor WHERE did = ANY(%s)", (joined,))
    return len(rows)


def _number_in_order(conn: psycopg.Connection[Any]) -> None:
    """Ids become visible in their order only if one transaction draws them at a
    time."""
    conn.execute("SELECT pg_advisory_xact_lock(hashtext('scope_account'))")


def _mend(
    conn: psycopg.Connection[Any], actors: LiteralString, values: tuple[Any, ...]
) -> None:
    # Infinity: its removal was begun, and maybe broken off.
    conn.execute(
        f"""
        WITH mended AS (
            SELECT actor FROM repo
            WHERE (state = 'synchronized' OR next_try = 'infinity')
              AND actor IN ({actors})
            ORDER BY actor FOR NO KEY UPDATE
        )
        UPDATE repo SET state = 'desynchronized', tries = 0,
            next_try = now() + make_interval(secs => {SETTLE_S}),
            error = 'was not to be indexed for a while'
        FROM mended WHERE repo.actor = mended.actor
        """,
        values,
    )


def remove_accounts(conn: psycopg.Connection[Any], dids: Iterable[str]) -> int:
    """Let accounts leave; return how many did. Does not commit."""
    _number_in_order(conn)
    row = conn.execute(
        """
        WITH gone AS (DELETE FROM scope_account WHERE did = ANY(%s) RETURNING did),
        noted AS (
            INSERT INTO scope_departure (id, did)
            SELECT nextval(pg_get_serial_sequence('scope_account', 'id')), did
            FROM gone RETURNING id
        )
        SELECT count(*), count(*) + (SELECT count(*) FROM scope_departure) FROM noted
        """,
        (list(dids),),
    ).fetchone()
    assert row is not None
    gone, noted = row
    if noted > _DEPARTURES_KEPT:
        conn.execute("DELETE FROM scope_departure")
        conn.execute("UPDATE scope SET generation = generation + 1")
    return int(gone)


def load_accounts(conn: psycopg.Connection[Any]) -> set[str]:
    """All accounts of it."""
    return {row[0] for row in conn.execute("SELECT did FROM scope_account")}


def load_changes(
    conn: psycopg.Connection[Any], after: int
) -> tuple[list[tuple[str, bool]], int]:
    """Who joined (True) and who left after the change with this id, in order, and the
    last id."""
    # One statement: who left and joined again between two would be lost.
    rows = conn.execute(
        """
        SELECT did, true, id FROM scope_account WHERE id > %(after)s
        UNION ALL SELECT did, false, id FROM scope_departure WHERE id > %(after)s
        ORDER BY 3
        """,
        {"after": after},
    ).fetchall()
    return [(row[0], row[1]) for row in rows], rows[-1][2] if rows else after


def claim_missing(
    conn: psycopg.Connection[Any], limit: int, *, wait: float
) -> list[str]:
    """Accounts of the scope whose repo was not let in, to be looked up; each again in
    `wait` seconds at the earliest. Those that are here are passed over for a day.
    Does not commit."""
    rows = conn.execute(
        """
        WITH due AS MATERIALIZED (
            SELECT s.id, s.next_try, repo.actor IS NOT NULL AS here
            FROM (SELECT id, did, next_try FROM scope_account WHERE next_try <= now()
                  ORDER BY next_try, id LIMIT %(page)s) s
            LEFT JOIN actor ON actor.did = s.did LEFT JOIN repo ON repo.actor = actor.id
        ), chosen AS (
            SELECT id, here FROM due WHERE here
            UNION ALL
            (SELECT id, here FROM due WHERE NOT here
             ORDER BY next_try, id LIMIT %(limit)s)
        )
        UPDATE scope_account SET next_try = now()
            + make_interval(secs => CASE WHEN here THEN 86400 ELSE %(wait)s END)
        FROM chosen WHERE scope_account.id = chosen.id
        RETURNING did, here
        """,
        {"page": _DUE_PAGE, "limit": limit, "wait": wait},
    )
    return [did for did, here in rows if not here]


def find_out_of_scope(conn: psycopg.Connection[Any], limit: int) -> list[str]:
    """Accounts whose repo is here and that do not belong to the scope (any more)."""
    if load_scope(conn).whole:
        return []
    rows = conn.execute(f"SELECT actor.did {_OUTSIDE} LIMIT %s", (limit,))
    return [row[0] for row in rows]


def is_outside(conn: psycopg.Connection[Any], did: str) -> bool:
    """Whether an account does not belong to the scope. A scope that is set meanwhile
    waits for the caller's transaction, or is seen by it."""
    row = conn.execute("SELECT kind FROM scope FOR SHARE").fetchone()
    if row is None or row[0] == ScopeKind.NETWORK:
        return False
    found = conn.execute("SELECT FROM scope_account WHERE did = %s", (did,))
    return found.fetchone() is None


def load_progress(conn: psycopg.Connection[Any]) -> ScopeProgress:
    """How far we are. Counts every repo: for people and once in a while."""
    whole = load_scope(conn).whole
    row = conn.execute(
        """
        WITH known AS (
            SELECT repo.state, repo.synchronized_at, actor.upstream_status,
                repo.selection IS NOT NULL AS partial,
                repo.state = 'synchronized' AND repo.selection IS NOT DISTINCT FROM
                    (SELECT selection FROM scope) AS done,
                %s OR s.id IS NOT NULL AS inside
            FROM repo JOIN actor ON actor.id = repo.actor
            LEFT JOIN scope_account s ON s.did = actor.did
        )
        SELECT (SELECT count(*) FROM scope_account),
            count(*) FILTER (WHERE inside),
            count(*) FILTER (WHERE inside AND done),
            count(*) FILTER (WHERE inside AND state <> 'synchronized'
                AND upstream_status IN
                    ('deleted', 'takendown', 'suspended', 'deactivated')),
            count(*) FILTER (WHERE inside
                AND synchronized_at > now() - interval '10 min'),
            count(*) FILTER (WHERE NOT inside),
            count(*) FILTER (WHERE inside AND done AND partial),
            coalesce(extract(epoch FROM now() - min(synchronized_at) FILTER (
                WHERE inside AND synchronized_at > now() - interval '10 min'
            ))::float8, %s)
        FROM known
        """,
        (whole, _LATELY_S),
    ).fetchone()
    assert row is not None
    wanted, *counts = row
    return ScopeProgress(None if whole else wanted, *counts)
