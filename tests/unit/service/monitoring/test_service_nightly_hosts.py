"""The alarm of stalled hosts, for hosts with one batch a night."""

from __future__ import annotations

import pytest

from crawler.hosts.balance import measure_hosts
from crawler.settings import CrawlSettings
from service.monitoring.alarm_rules import host_stalled
from service.monitoring.snapshot import Snapshot
from storage.hosts import host_rows
from storage.hosts.host_status import watched_hosts
from storage.postgres.pool import Conn

_BATCH = 50_000
_STEPS_A_DAY = 12


class Nights:
    """A configured, streamed host with a simulated clock."""

    def __init__(self, conn: Conn, *, relay: bool = False) -> None:
        self._conn = conn
        self._settings = CrawlSettings()
        self._host, _ = host_rows.put_host(
            conn,
            "pds.example.com",
            "https://pds.example.com",
            source=host_rows.SOURCE_CONFIGURED,
            relay=relay,
        )
        host_rows.note_contact(conn, self._host, host_rows.HOST_STREAMING)
        conn.execute(
            "INSERT INTO host_cursor (host, seq) VALUES (%s, 1)", (self._host,)
        )

    def step(self, events: int) -> bool:
        """Let two hours pass, then events; return True if an alarm is active before."""
        self._conn.execute(
            """
            UPDATE host SET first_seen = first_seen - interval '2 hours',
                moved_at = moved_at - interval '2 hours',
                measured_at = measured_at - interval '2 hours',
                fresh_at = fresh_at - interval '2 hours';
            UPDATE host_cursor SET updated_at = updated_at - interval '2 hours'
            """
        )
        watched = Snapshot(hosts=tuple(watched_hosts(self._conn)))
        rings = bool(list(host_stalled(watched)))
        if events:
            host_rows.note_events(self._conn, {self._host: (events, None)})
            self._conn.execute("UPDATE host_cursor SET updated_at = now()")
        measure_hosts(self._conn, self._settings)
        return rings

    def day(self, events: int) -> bool:
        return any([self.step(0 if n else events) for n in range(_STEPS_A_DAY)])


@pytest.mark.parametrize("nights", [7, 5])
def test_nightly_host_is_stalled_after_a_missed_night(conn: Conn, nights: int) -> None:
    host = Nights(conn)
    rang = [host.day(_BATCH if day % 7 < nights else 0) for day in range(21)]
    # The first weekend looks like a stall.
    first = {5, 6, 7} if nights < 7 else set()
    assert {day for day, rings in enumerate(rang) if rings} <= first
    assert any(host.day(0) for _ in range(7))


def test_busy_host_is_stalled_within_hours(conn: Conn) -> None:
    host = Nights(conn)
    assert not any(host.step(_BATCH) for _ in range(36))
    assert any(host.step(0) for _ in range(2))


def test_relay_is_stalled_at_once_after_a_day_away(conn: Conn) -> None:
    host = Nights(conn, relay=True)
    for events in (_BATCH, 0, _BATCH):
        for _ in range(_STEPS_A_DAY):
            host.step(events)
    assert host.step(0)
