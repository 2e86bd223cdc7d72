"""Locks of host rows: their order, and admissions of two processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from crawler.hosts.host_name import HostName
from crawler.identities.accounts import Account
from crawler.scope.admission import Admission
from crawler.settings import CrawlSettings
from protocol.syntax.did import Did
from storage.hosts import host_rows
from storage.postgres.pool import Conn


def put(conn: Conn, name: str) -> int:
    return host_rows.put_host(
        conn, name, f"https://{name}", source=host_rows.SOURCE_CONFIGURED
    )[0]


@pytest.fixture
def second(index_db: str) -> Iterator[Conn]:
    with psycopg.connect(index_db) as connection:
        yield connection


def start_blocked(conn: Conn, work: Any, blocked: int) -> threading.Thread:
    """Start `work` in a thread, and wait until that many sessions wait for a lock."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    for _ in range(600):
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
        conn.rollback()
        assert row is not None
        if row[0] >= blocked:
            return thread
        thread.join(0.05)
    raise AssertionError("nobody waits")


def test_host_rows_are_locked_by_id(conn: Conn, second: Conn, index_db: str) -> None:
    """Two processes with the same two hosts would deadlock otherwise."""
    # The first by id is the last by name.
    first = put(conn, "z.example.com")
    last = put(conn, "a.example.com")
    conn.commit()
    accounts = []
    for n, name in enumerate(("a.example.com", "z.example.com")):
        account = Account(Did(f"did:plc:{'ab'[n] * 24}"))
        account.pds, account.pds_url = HostName(name), f"https://{name}"
        accounts.append(account)
    second.execute("SELECT FROM host WHERE id = %s FOR UPDATE", (first,))

    def admit() -> None:
        with psycopg.connect(index_db) as own:
            Admission(CrawlSettings()).admit(own, accounts, relay=False)

    def count() -> None:
        with psycopg.connect(index_db) as own:
            host_rows.note_events(own, {last: (1, None), first: (1, None)})

    threads = [start_blocked(conn, admit, 1), start_blocked(conn, count, 2)]
    # Both wait for the first without holding the last.
    conn.execute("SELECT FROM host WHERE id = %s FOR UPDATE NOWAIT", (last,))
    conn.rollback()
    second.rollback()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert {h.accounts for h in host_rows.load_hosts(conn).values()} == {1}


def test_account_admitted_by_two_processes_counts_once(
    conn: Conn, second: Conn, index_db: str
) -> None:
    host = put(conn, "a.example.com")
    conn.commit()

    def admit(own: Conn) -> None:
        account = Account(Did(f"did:plc:{'a' * 24}"))
        account.pds, account.pds_url = (
            HostName("a.example.com"),
            "https://a.example.com",
        )
        Admission(CrawlSettings()).admit(own, [account], relay=False)

    def admit_too() -> None:
        with psycopg.connect(index_db) as own:
            admit(own)

    admit(second)
    # It has found no repo, and waits for the host.
    thread = start_blocked(conn, admit_too, 1)
    conn.rollback()
    second.commit()
    thread.join(60)
    assert not thread.is_alive()
    row = conn.execute("SELECT accounts, admitted FROM host WHERE id = %s", (host,))
    assert row.fetchone() == (1, 1)
