"""Labels on records and accounts, from the labelers that the request accepts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from storage.postgres.arrays import int_columns
from storage.postgres.pool import Conn
from storage.records.addresses import Address


@dataclass(frozen=True, slots=True)
class Label:
    """A label in force."""

    src: str
    val: str
    cts: datetime
    exp: datetime | None
    cid: bytes


def account_subject(actor: int) -> Address:
    """Return the address that stands for a whole account."""
    return Address(actor, 0, 0)


def load_labels(
    conn: Conn, labelers: Collection[str], subjects: Collection[Address]
) -> dict[Address, list[Label]]:
    """Return labels by subject, without negated and expired ones."""
    found: dict[Address, list[Label]] = {}
    rows = conn.execute(
        """
        SELECT l.actor, l.collection, l.rkey, s.did, l.val, l.cts, l.exp, l.cid
        FROM unnest(%s::int4[], %s::int4[], %s::int8[]) AS x(a, c, k)
        JOIN label l ON l.actor = x.a AND l.collection = x.c AND l.rkey = x.k
        JOIN actor s ON s.id = l.src
        WHERE s.did = ANY(%s) AND NOT l.neg AND (l.exp IS NULL OR l.exp > now())
        ORDER BY l.cts
        """,
        (*int_columns([*subjects], 3), [*labelers]),
    )
    for actor, collection, rkey, src, val, cts, exp, cid in rows:
        subject = Address(actor, collection, rkey)
        found.setdefault(subject, []).append(Label(src, val, cts, exp, cid))
    return found
