"""Rebuilds of engines outside Postgres, and the work beside the drain.

A rebuild walks all accounts and records in order, in bounded steps, and stores its
position: it goes on after a crash, in whichever process holds the lock of the drain.
Meanwhile the drain writes changes to the old and the new index.
"""

from __future__ import annotations

from typing import Final

from search.drain import PROFILE, outbox_lock, queue_everything
from search.engines.contract import SearchEngine
from search.engines.external import ExternalEngine
from search.engines.external_state import Rebuild, adopt
from search.record_documents import Texts, load_shown
from storage.postgres.fetch import fetch_int
from storage.postgres.pool import Conn
from storage.postgres.transaction import whole_transaction
from storage.records.addresses import Address

STEP_RECORDS: Final = 2_000
_STEP_ACCOUNTS: Final = 500

Position = tuple[int, int, int]


def begin_rebuild(conn: Conn, engine: ExternalEngine) -> bool:
    """Begin a rebuild, or go on with the one under way; False while another works."""
    with outbox_lock(conn) as held:
        if held:
            with whole_transaction(conn):
                total = fetch_int(conn, "SELECT count(*) FROM repo")
            engine.begin_rebuild(total)
        return held


def adopt_engine(conn: Conn, engine: SearchEngine) -> None:
    """Rebuild an engine that the drain did not write to before.

    The outbox was drained into another one, so that changes are missing here.
    """
    with whole_transaction(conn):
        before = adopt(conn, engine.name)
    if before is None or before == engine.name:
        return
    if isinstance(engine, ExternalEngine):
        begin_rebuild(conn, engine)
    else:
        queue_everything(conn, engine)


def work_beside(conn: Conn, engine: SearchEngine, texts: Texts) -> bool:
    """Do one step of a rebuild and one of upkeep; return True if there may be more."""
    if not isinstance(engine, ExternalEngine):
        return False
    with outbox_lock(conn) as held:
        if not held:
            return False
        more = rebuild_step(conn, engine, texts)
        return engine.maintain() or more


def rebuild_step(conn: Conn, engine: ExternalEngine, texts: Texts) -> bool:
    """Write the next records of a rebuild; end it after the last ones.

    Returns False without a rebuild. The caller holds the lock of the drain.
    """
    rebuild = engine.state_for_writes().rebuild
    if rebuild is None:
        return False
    with whole_transaction(conn):
        accounts = _next_accounts(conn, rebuild.position[0])
        if accounts:
            records, position = _next_records(conn, texts, rebuild, accounts[-1])
            begun = rebuild.position[1:] != (0, 0)
            named = [
                a
                for a in accounts
                if a <= position[0] and not (begun and a == rebuild.position[0])
            ]
            documents = load_shown(conn, texts, named, records)
    if not accounts:
        engine.finish_rebuild()
        return True
    engine.fill(documents, position, rebuild.done + len(named))
    return True


def _next_accounts(conn: Conn, first: int) -> list[int]:
    rows = conn.execute(
        "SELECT actor FROM repo WHERE actor >= %s ORDER BY actor LIMIT %s",
        (first, _STEP_ACCOUNTS),
    )
    return [actor for (actor,) in rows]


def _next_records(
    conn: Conn, texts: Texts, rebuild: Rebuild, last: int
) -> tuple[list[Address], Position]:
    """Return records of accounts up to `last`, and the position after them."""
    rows = conn.execute(
        """
        SELECT actor, collection, rkey FROM record
        WHERE (actor, collection, rkey) > (%s, %s, %s) AND actor <= %s
          AND collection <> ALL(%s)
        ORDER BY actor, collection, rkey LIMIT %s
        """,
        (*rebuild.position, last, [*texts.unsearched, PROFILE], STEP_RECORDS),
    ).fetchall()
    found = [Address(*row) for row in rows]
    if len(found) == STEP_RECORDS:
        last_found = found[-1]
        return found, (last_found.actor, last_found.collection, last_found.rkey)
    return found, (last + 1, 0, 0)
