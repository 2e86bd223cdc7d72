"""The scope of the index: its kind, and its accounts unless it is the whole network.

Accounts that join or leave get rising ids, so that readers load only changes.
`generation` rises when everything must be read again: when a scope is set, and when the
list of departures is reset.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, LiteralString

from storage.collections import GRAPH_FOLLOW
from storage.hosts.host_rows import load_hosts, lock_hosts
from storage.postgres.pool import Conn
from storage.repos.selections import put_selection

SETTLE_S: Final = 3.0
"""Delay until the repo of a new account is fetched. By then all processes accept its
commits, so none is missing between the fetch and the stream."""

_DUE_PAGE: Final = 1_000
_DEPARTURES_KEPT: Final = 10_000

_OUTSIDE: Final = """
    FROM repo JOIN actor ON actor.id = repo.actor
    WHERE NOT EXISTS (SELECT FROM scope_account s WHERE s.did = actor.did)
"""


class UnkeptError(ValueError):
    """The scope depends on records that would not be kept."""


class ScopeKind(StrEnum):
    NETWORK = "network"
    DIDS = "dids"
    FOLLOWS = "follows"
    COLLECTION = "collection"


@dataclass(frozen=True, slots=True)
class Scope:
    """A scope: `seeds` are named accounts, `collections` NSIDs.

    `settings` is the configuration it was set from, None for a command. `age_s` is
    seconds since its change. Only the collections `keep` of each repo are kept, all if
    empty.
    """

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
        """Return True if every account belongs to it."""
        return self.kind is ScopeKind.NETWORK


def load_scope(conn: Conn) -> Scope:
    """Return the current scope; without a row it is the whole network."""
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
    """Raise UnkeptError if the accounts could not be chosen from the kept records."""
    kept = set(keep)
    needed = {GRAPH_FOLLOW} if kind is ScopeKind.FOLLOWS else set(collections)
    if kept and not needed <= kept:
        missing = ", ".join(sorted(needed - kept))
        raise UnkeptError(f"the scope {kind} needs {missing}: keep it too")


def set_scope(
    conn: Conn,
    kind: ScopeKind,
    *,
    seeds: Sequence[str] = (),
    collections: Sequence[str] = (),
    keep: Sequence[str] = (),
    settings: str | None = None,
) -> None:
    """Set the scope. Raises UnkeptError. Does not commit.

    Accounts that are not named leave until they are found again; from follows to
    follows, only once nobody follows them. If more may be wanted, all hosts are listed
    again. If the kept collections change, every repo is compared again. `settings` None
    keeps the stored value.

    Lock order: repos by id, the scope, hosts by id.
    """
    check_keep(kind, collections, keep)
    seeds = list(dict.fromkeys(seeds))
    selection = put_selection(conn, keep)
    before = load_scope(conn)
    if not before.whole:
        # Their commits were skipped, and they may be wanted again now.
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
    # Otherwise the reconciler removes accounts that nobody follows any more.
    add_accounts(conn, seeds)
    if kind is ScopeKind.COLLECTION:
        _keep_holders(conn, collections)
    if kind is ScopeKind.NETWORK:
        lock_hosts(conn, load_hosts(conn))
        conn.execute(
            "UPDATE host SET listed_at = NULL, list_cursor = NULL, polled_at = NULL"
            " WHERE NOT relay"
        )


def _keep_holders(conn: Conn, collections: Sequence[str]) -> None:
    """Add the accounts whose records of the collections are stored already."""
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


def hold_scope(conn: Conn, scope: Scope) -> bool:
    """Return True if this is still the scope; then lock it until the transaction
    ends."""
    row = conn.execute("SELECT changed_at FROM scope FOR SHARE").fetchone()
    return row == (scope.changed_at,)


def add_accounts(
    conn: Conn, dids: Iterable[str], *, mend: bool = False, scope: Scope | None = None
) -> int:
    """Add accounts; return the number of new ones. Does not commit.

    With `mend` their commits may have been skipped: a stored repo is fetched again.
    With `scope`, nothing happens if the scope changed since.
    """
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


def _number_in_order(conn: Conn) -> None:
    """Serialize the drawing of ids, so that they become visible in order."""
    conn.execute("SELECT pg_advisory_xact_lock(hashtext('scope_account'))")


def _mend(conn: Conn, actors: LiteralString, values: tuple[Any, ...]) -> None:
    # Infinity: its removal was begun, and maybe interrupted.
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
            error = 'was outside the scope for a while'
        FROM mended WHERE repo.actor = mended.actor
        """,
        values,
    )


def remove_accounts(conn: Conn, dids: Iterable[str]) -> int:
    """Remove accounts; return their number. Does not commit."""
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


def load_accounts(conn: Conn) -> set[str]:
    return {row[0] for row in conn.execute("SELECT did FROM scope_account")}


def load_changes(conn: Conn, after: int) -> tuple[list[tuple[str, bool]], int]:
    """Return the changes after this id, in order, and the last id.

    A change is a DID, and True if it joined, False if it left.
    """
    # One statement: an account that left and joined between two would be lost.
    rows = conn.execute(
        """
        SELECT did, true, id FROM scope_account WHERE id > %(after)s
        UNION ALL SELECT did, false, id FROM scope_departure WHERE id > %(after)s
        ORDER BY 3
        """,
        {"after": after},
    ).fetchall()
    return [(row[0], row[1]) for row in rows], rows[-1][2] if rows else after


def claim_missing(conn: Conn, limit: int, *, wait: float) -> list[str]:
    """Return accounts of the scope without an admitted repo, to be resolved.

    Each is due again in `wait` seconds. Those with a repo are skipped for a day. Does
    not commit.
    """
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


def find_out_of_scope(conn: Conn, limit: int) -> list[str]:
    """Return up to `limit` accounts with a repo that do not belong to the scope."""
    if load_scope(conn).whole:
        return []
    rows = conn.execute(f"SELECT actor.did {_OUTSIDE} LIMIT %s", (limit,))
    return [row[0] for row in rows]


def is_outside(conn: Conn, did: str) -> bool:
    """Return True if an account does not belong to the scope, which is locked."""
    row = conn.execute("SELECT kind FROM scope FOR SHARE").fetchone()
    if row is None or row[0] == ScopeKind.NETWORK:
        return False
    found = conn.execute("SELECT FROM scope_account WHERE did = %s", (did,))
    return found.fetchone() is None
