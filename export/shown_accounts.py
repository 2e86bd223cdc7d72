"""Accounts of an export: which may be shown, and which the folder holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from appview.hydration.self_labels import self_label_values
from appview.hydration.unrecommended import NO_UNAUTHENTICATED
from export.layout import Kind
from feeds.opt_outs import find_opted_out
from protocol.data.cbor import decode
from protocol.errors import ProtocolError
from storage.collections import ACTOR_PROFILE, COLLECTION_IDS, RKEY_SELF
from storage.postgres.pool import Conn
from storage.postgres.transaction import whole_transaction
from storage.private.takedowns import TakenDown
from storage.records.addresses import Address
from storage.records.record_allowance import HELD, Held, read_block
from storage.states import STATUS_ACTIVE

_PROFILE: Final = COLLECTION_IDS[ACTOR_PROFILE]


@dataclass(frozen=True, slots=True)
class Account:
    """An account. `hidden` is the reason why it may not be in the export.

    written: the folder holds it.
    """

    actor: int
    did: str
    handle: str | None
    indexed_at: datetime
    hidden: Kind | None
    written: bool
    rev: str | None = None


def load_accounts(
    conn: Conn, export: int, actors: Collection[int], taken: TakenDown
) -> dict[int, Account]:
    """Return the accounts with these ids."""
    rows = conn.execute(
        """
        SELECT a.id, a.did, a.handle, a.indexed_at, a.upstream_status,
            a.takedown IS NOT NULL, r.rev, e.actor IS NOT NULL
        FROM unnest(%s::int4[]) AS x (id) JOIN actor a ON a.id = x.id
        LEFT JOIN repo r ON r.actor = a.id
        LEFT JOIN export_account e
            ON e.export = %s AND e.actor = a.id AND e.gone IS NULL
        """,
        (sorted(actors), export),
    ).fetchall()
    hidden: dict[int, Kind] = {}
    for actor, did, _, _, status, takedown, rev, _ in rows:
        if takedown or did in taken.accounts:
            hidden[actor] = Kind.TAKEDOWN
        elif status != STATUS_ACTIVE or rev is None:
            hidden[actor] = Kind.ACCOUNT
    shown = [row[0] for row in rows if row[0] not in hidden]
    for actor in find_opted_out(conn, shown) | _find_signed_in_only(conn, shown):
        hidden[actor] = Kind.OPT_OUT
    return {
        actor: Account(actor, did, handle, since, hidden.get(actor), written, rev)
        for actor, did, handle, since, _, _, rev, written in rows
    }


def _find_signed_in_only(conn: Conn, actors: Sequence[int]) -> set[int]:
    """Return accounts that ask not to be shown to people without an account."""
    rows = conn.execute(
        f"""
        SELECT r.actor, r.collection, r.rkey, {HELD}
        FROM unnest(%s::int4[]) AS x (a)
        JOIN record r ON r.actor = x.a AND r.collection = %s AND r.rkey = %s
        """,
        (list(actors), _PROFILE, RKEY_SELF),
    ).fetchall()
    held = [Held(Address(*row[:3]), *row[3:]) for row in rows]
    return {row.address.actor for row in held if _signed_in_only(conn, row)}


def _signed_in_only(conn: Conn, row: Held) -> bool:
    block = read_block(conn, row)
    if NO_UNAUTHENTICATED.encode() not in block:
        return False
    try:
        value = decode(block)
    except ProtocolError:
        return True
    return isinstance(value, dict) and NO_UNAUTHENTICATED in self_label_values(value)


def next_actors(conn: Conn, after: int, limit: int) -> list[int]:
    """Return the next accounts with a repo, by id."""
    rows = conn.execute(
        "SELECT actor FROM repo WHERE actor > %s ORDER BY actor LIMIT %s",
        (after, limit),
    )
    return [row[0] for row in rows]


def note_accounts(
    conn: Conn, export: int, seq: int, written: Sequence[int], gone: Sequence[int]
) -> None:
    """Note accounts that an increment writes and removes. Commits.

    It counts once the manifest has the increment: see `settle_accounts`.
    """
    with whole_transaction(conn):
        conn.execute(
            "UPDATE export_account SET gone = %s WHERE export = %s AND actor = ANY(%s)",
            (seq, export, list(gone)),
        )
        conn.execute(
            "INSERT INTO export_account (export, actor, seq)"
            " SELECT %s, unnest(%s::int4[]), %s"
            " ON CONFLICT (export, actor) DO UPDATE SET seq = excluded.seq, gone = NULL"
            " WHERE export_account.gone IS NOT NULL",
            (export, list(written), seq),
        )


def settle_accounts(conn: Conn, export: int, last: int) -> None:
    """Undo what increments after `last` noted, and forget removed accounts. Commits."""
    with whole_transaction(conn):
        for condition in ("seq > %s", "gone <= %s"):
            conn.execute(
                f"DELETE FROM export_account WHERE export = %s AND {condition}",
                (export, last),
            )
        conn.execute(
            "UPDATE export_account SET gone = NULL WHERE export = %s AND gone > %s",
            (export, last),
        )
