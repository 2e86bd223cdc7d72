"""Takedowns in memory: fresh within a second, and kept while the database is away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from appview.takedowns import CHECK_EVERY_S, TakedownCache
from protocol.data.cid import raw_cid_for
from storage.postgres.pool import Conn, Pool
from storage.private.private_store import PrivateStore
from storage.private.takedowns import (
    MAX_TAKEDOWNS,
    TooManyTakedownsError,
    blob_subject,
    take_down,
    undo_takedown,
)

DID = "did:plc:" + "a" * 24
POST = f"at://{DID}/app.bsky.feed.post/3jzfcijpj2z2a"


class _Away(PrivateStore):
    @contextmanager
    def read(self) -> Iterator[Conn]:
        raise psycopg.OperationalError("away")
        yield


def test_decisions_are_seen_within_five_seconds(pool: Pool, conn: Conn) -> None:
    store, cache = PrivateStore(pool), TakedownCache()
    assert not cache.current(store).hides(DID)
    take_down(conn, DID, operator="me", reason="x")
    conn.commit()
    started = time.monotonic()
    while not cache.current(store).hides(DID):
        assert time.monotonic() - started < 5
        time.sleep(0.02)
    assert CHECK_EVERY_S <= 5
    undo_takedown(conn, DID, operator="me", reason="x")
    conn.commit()
    started = time.monotonic()
    while cache.current(store).hides(DID):
        assert time.monotonic() - started < 5
        time.sleep(0.02)


def test_kinds_of_subjects_are_told_apart(pool: Pool, conn: Conn) -> None:
    blob = raw_cid_for(b"picture")
    for subject in (POST, blob_subject(DID, blob)):
        take_down(conn, subject, operator="me", reason="x")
    conn.commit()
    taken = TakedownCache().current(PrivateStore(pool))
    assert taken.has_record(POST)
    assert not taken.has_record(POST[:-1] + "b")
    assert taken.has_blob(DID, blob)
    assert not taken.has_blob(DID[:-1] + "b", blob)
    assert not taken.hides(DID)
    assert taken.authors == {DID}
    take_down(conn, DID, operator="me", reason="x")
    conn.commit()
    assert TakedownCache().current(PrivateStore(pool)).has_record(POST[:-1] + "b")


def test_the_last_takedowns_hold_while_the_database_is_away(
    pool: Pool, conn: Conn
) -> None:
    take_down(conn, DID, operator="me", reason="x")
    conn.commit()
    cache = TakedownCache(0)
    assert cache.current(PrivateStore(pool)).hides(DID)
    assert cache.current(_Away(pool)).hides(DID)
    # Without any, answers would show what is taken down.
    with pytest.raises(psycopg.OperationalError):
        TakedownCache().current(_Away(pool))


def test_takedowns_are_bounded(
    pool: Pool, conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_TAKEDOWNS >= 100_000
    monkeypatch.setattr("storage.private.takedowns.MAX_TAKEDOWNS", 1)
    take_down(conn, DID, operator="me", reason="x")
    with pytest.raises(TooManyTakedownsError):
        take_down(conn, POST, operator="me", reason="x")
    assert take_down(conn, DID, operator="me", reason="again") == "x"
    conn.rollback()
