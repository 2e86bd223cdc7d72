"""Interactions of accounts with feeds: posts seen, and posts to see less or more of.

Each is a private item of its account. The oldest ones give way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from storage.postgres.instants import micros_sql
from storage.postgres.pool import Conn
from storage.private.private_items import MOST, Kind
from storage.private.sealing import Account

LESS: Final = 1
MORE: Final = 2
"""Flags of a request."""


class Interaction(NamedTuple):
    """An interaction with a post; a request has the flag LESS or MORE."""

    kind: Kind
    uri: str
    value: dict[str, Any]
    flags: int = 0


@dataclass(frozen=True, slots=True)
class ToldFeeds:
    """Interactions of an account, with times in microseconds since 1970.

    `seen` is by keyed hash, `less` and `more` by AT-URI.
    """

    seen: dict[int, int] = field(default_factory=dict)
    less: dict[str, int] = field(default_factory=dict)
    more: dict[str, int] = field(default_factory=dict)


def save_interactions(
    conn: Conn, account: Account, interactions: Sequence[Interaction], now: datetime
) -> None:
    """Store interactions, one a post and kind, and remove the oldest ones.

    A post keeps the time at which it was first seen; a request replaces the last one.
    """
    rows: dict[tuple[int, int], tuple[int, bytes]] = {}
    for one in interactions:
        number = account.subject(one.uri)
        sealed = account.seal(one.kind, number, one.value | {"subject": one.uri})
        rows[one.kind, number] = (one.flags, sealed)
    if not rows:
        return
    # Sorted: two requests of an account must not wait for each other in a circle.
    ordered = sorted(rows.items())
    conn.execute(
        """
        INSERT INTO private_item AS i (account, kind, subject, flags, at, sealed)
        SELECT %(account)s, x.kind, x.subject, x.flags, %(now)s, x.sealed
        FROM unnest(%(kinds)s::int2[], %(subjects)s::int8[], %(flags)s::int2[],
                    %(sealed)s::bytea[]) AS x (kind, subject, flags, sealed)
        ON CONFLICT (account, kind, subject) DO UPDATE
            SET sealed = excluded.sealed, flags = excluded.flags, at = excluded.at
            WHERE i.kind = %(request)s
        """,
        {
            "account": account.id,
            "now": now,
            "request": Kind.FEED_REQUEST,
            "kinds": [int(kind) for (kind, _), _ in ordered],
            "subjects": [subject for (_, subject), _ in ordered],
            "flags": [flags for _, (flags, _) in ordered],
            "sealed": [sealed for _, (_, sealed) in ordered],
        },
    )
    for kind in {Kind(kind) for kind, _ in rows}:
        _drop_oldest(conn, account, kind)


def _drop_oldest(conn: Conn, account: Account, kind: Kind) -> None:
    conn.execute(
        """
        DELETE FROM private_item
        WHERE account = %(account)s AND kind = %(kind)s AND (at, subject) <= (
            SELECT at, subject FROM private_item
            WHERE account = %(account)s AND kind = %(kind)s
            ORDER BY at DESC, subject DESC OFFSET %(most)s LIMIT 1)
        """,
        {"account": account.id, "kind": kind, "most": MOST[kind]},
    )


def load_told(conn: Conn, account: Account) -> ToldFeeds:
    """Return the interactions of an account. Only requests are decrypted."""
    rows = conn.execute(
        f"""
        SELECT subject, flags, {micros_sql("at")},
            CASE WHEN kind = %(request)s THEN sealed END
        FROM private_item
        WHERE account = %(account)s AND kind = ANY(%(kinds)s) LIMIT %(most)s
        """,
        {
            "account": account.id,
            "request": Kind.FEED_REQUEST,
            "kinds": [int(Kind.FEED_SEEN), int(Kind.FEED_REQUEST)],
            "most": MOST[Kind.FEED_SEEN] + MOST[Kind.FEED_REQUEST],
        },
    )
    told = ToldFeeds()
    for subject, flags, at, sealed in rows:
        if sealed is None:
            told.seen[subject] = at
        else:
            uri = account.open(Kind.FEED_REQUEST, subject, sealed)["subject"]
            (told.less if flags & LESS else told.more)[uri] = at
    return told
