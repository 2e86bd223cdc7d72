"""Every alarm starts and ends; metrics stay bounded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from crawler.hosts.balance import DROPS, EVENTS
from labels.label_rows import StreamHealth
from plc import operation_log
from protocol.events.drops import DropReason
from service.monitoring import alarm_rules
from service.monitoring.alarm_rules import RULES, find_alarms
from service.monitoring.alarms import EXPLANATIONS, Alarm, AlarmKind
from service.monitoring.metrics import TaskMetrics
from service.monitoring.snapshot import CRAWL_PULSE, TASK_PULSE, Snapshot, take_snapshot
from service.monitoring.watch_metrics import WatchCollector, watch_metrics
from service.tasks import ScheduledTask, register
from storage.heartbeats import Heartbeat, beat, forget_heartbeats
from storage.hosts import host_rows
from storage.hosts.host_activity import Gauge, save_gauges
from storage.hosts.host_status import WatchedHost
from storage.postgres.pool import Pool

HOST = WatchedHost(
    hostname="pds.example.com",
    state="streaming",
    mode="stream",
    relay=False,
    trusted=True,
    rate=10.0,
    usual_rate=10.0,
    usual_gap=60.0,
    silent_s=1.0,
    lag_s=0.5,
    away_s=3_600.0,
    known_s=1e6,
    error=None,
)
CRAWL = Heartbeat(CRAWL_PULSE, 4.0, {"queued_bytes": 0, "queue_bytes": 1_000})
TASK = Heartbeat(f"{TASK_PULSE}list_repos", 50.0, {"every_s": 60.0})
WELL = Snapshot(
    hosts=(HOST, *(replace(HOST, hostname=f"h{n}.example.com") for n in range(3))),
    pulses={pulse.name: pulse for pulse in (CRAWL, TASK)},
    gauges={
        EVENTS: Gauge(EVENTS, 1e6, 40.0, 40.0, 60.0, 1e6),
        f"{DROPS}/bad_signature": Gauge("", 10.0, 0.01, 0.01, 60.0, 1e6),
    },
    outbox=100,
    buffered=10,
    repos={"synchronized": 10_000, "desynchronized": 50},
    jobs={"identity": 40},
)


def with_host(**changes: Any) -> Snapshot:
    return replace(WELL, hosts=(replace(HOST, **changes), *WELL.hosts[1:]))


def with_pulse(pulse: Heartbeat, **changes: Any) -> Snapshot:
    changed = replace(pulse, **changes)
    return replace(WELL, pulses={**WELL.pulses, changed.name: changed})


def without_tasks(age_s: float = 4.0, **figures: Any) -> Snapshot:
    return replace(WELL, pulses={CRAWL_PULSE: Heartbeat(CRAWL_PULSE, age_s, figures)})


def with_gauge(name: str, rate: float, usual: float = 40.0) -> Snapshot:
    gauge = Gauge(name, 1e6, rate, usual, 60.0, 1e6)
    return replace(WELL, gauges={**WELL.gauges, name: gauge})


def all_hosts(**changes: Any) -> Snapshot:
    return replace(WELL, hosts=tuple(replace(host, **changes) for host in WELL.hosts))


# Kind, a snapshot with the alarm, and the nearest one without it.
CASES: list[tuple[AlarmKind, Snapshot, Snapshot]] = [
    (
        AlarmKind.CRAWL_SILENT,
        with_pulse(CRAWL, age_s=61.0),
        with_pulse(CRAWL, age_s=59.0),
    ),
    (AlarmKind.TASK_LATE, with_pulse(TASK, age_s=301.0), with_pulse(TASK, age_s=299.0)),
    (AlarmKind.TASK_LATE, without_tasks(up_s=601), without_tasks(up_s=599)),
    (AlarmKind.HOST_STALLED, with_host(silent_s=301.0), with_host(silent_s=299.0)),
    (
        AlarmKind.HOST_STALLED,
        with_host(usual_rate=1 / 50, rate=1 / 50, silent_s=2_600.0),
        with_host(usual_rate=1 / 50, rate=1 / 50, silent_s=2_400.0),
    ),
    (
        AlarmKind.HOST_STALLED,
        with_host(usual_gap=80_000.0, silent_s=160_001.0),
        with_host(usual_gap=80_000.0, silent_s=159_999.0),
    ),
    (
        AlarmKind.HOST_STALLED,
        with_host(usual_gap=80_000.0, relay=True, silent_s=301.0),
        with_host(usual_gap=80_000.0, relay=True, silent_s=299.0),
    ),
    (
        AlarmKind.HOST_STALLED,
        with_host(relay=True, known_s=60.0, silent_s=301.0),
        with_host(known_s=86_399.0, silent_s=301.0),
    ),
    (AlarmKind.HOST_SLOW, with_host(rate=0.9), with_host(rate=1.1)),
    (AlarmKind.ALL_SLOW, with_gauge(EVENTS, 3.9), with_gauge(EVENTS, 4.1)),
    (AlarmKind.HOST_AWAY, with_host(state="offline"), with_host(state="polling")),
    (
        AlarmKind.HOST_AWAY,
        with_host(state="throttled", trusted=False, relay=True),
        with_host(state="throttled", trusted=False),
    ),
    (AlarmKind.LAG, with_host(lag_s=121.0), with_host(lag_s=119.0)),
    (AlarmKind.HOST_CLOCK, with_host(lag_s=-61.0), with_host(lag_s=-59.0)),
    (
        AlarmKind.HOST_CLOCK,
        with_host(state="polling", lag_s=-61.0, silent_s=3_500.0),
        with_host(state="polling", lag_s=-61.0, silent_s=3_700.0),
    ),
    (AlarmKind.OUR_CLOCK, all_hosts(lag_s=-61.0), all_hosts(lag_s=-59.0)),
    (
        AlarmKind.OUR_CLOCK,
        all_hosts(state="polling", lag_s=-61.0, silent_s=3_500.0),
        all_hosts(state="polling", lag_s=-61.0, silent_s=3_700.0),
    ),
    (
        AlarmKind.QUEUE_FULL,
        with_pulse(CRAWL, figures={"queued_bytes": 901, "queue_bytes": 1_000}),
        with_pulse(CRAWL, figures={"queued_bytes": 899, "queue_bytes": 1_000}),
    ),
    (
        AlarmKind.SEARCH_BEHIND,
        replace(WELL, outbox=20_001),
        replace(WELL, outbox=20_000),
    ),
    (
        AlarmKind.SEARCH_FAILING,
        replace(WELL, search_failures={"meilisearch": "no space left"}),
        WELL,
    ),
    (
        AlarmKind.REPOS_WAITING,
        replace(WELL, repos={"synchronized": 4_000, "resyncing": 501}),
        replace(WELL, repos={"synchronized": 6_000, "resyncing": 501}),
    ),
    (
        AlarmKind.REPOS_WAITING,
        replace(WELL, repos={"resyncing": 501}),
        replace(WELL, repos={"resyncing": 500}),
    ),
    (
        AlarmKind.BUFFER_FULL,
        replace(WELL, buffered=100_001),
        replace(WELL, buffered=100_000),
    ),
    (
        AlarmKind.IDENTITIES_WAITING,
        replace(WELL, jobs={"identity": 20_001}),
        replace(WELL, jobs={"identity": 20_000}),
    ),
    (
        AlarmKind.MIRROR_STUCK,
        replace(WELL, mirrors={"https://plc.example.com": "out of order"}),
        WELL,
    ),
    (
        AlarmKind.LABELER_AWAY,
        replace(WELL, labelers=(StreamHealth("did:plc:a", 1_801.0, None, "x"),)),
        replace(WELL, labelers=(StreamHealth("did:plc:a", 1_800.0, 9.0, "x"),)),
    ),
    (
        AlarmKind.MANY_DROPS,
        with_gauge(f"{DROPS}/bad_signature", 2.1),
        with_gauge(f"{DROPS}/bad_signature", 1.9),
    ),
    (
        AlarmKind.MANY_DROPS,
        with_gauge(f"{DROPS}/bad_car", 30.0),
        with_gauge(f"{DROPS}/stale_rev", 30.0),
    ),
    (AlarmKind.QUARANTINE, replace(WELL, quarantined=1), replace(WELL, quarantined=0)),
]


def test_find_alarms_of_a_healthy_or_empty_snapshot() -> None:
    assert find_alarms(WELL) == []
    assert find_alarms(Snapshot()) == []


@pytest.mark.parametrize(("kind", "wrong", "right"), CASES)
def test_alarm_starts_and_ends(
    kind: AlarmKind, wrong: Snapshot, right: Snapshot
) -> None:
    [alarm] = find_alarms(wrong)
    assert alarm.kind is kind
    assert alarm.subject
    assert alarm.detail
    assert find_alarms(right) == []


def test_every_alarm_has_a_rule_and_a_case() -> None:
    assert {kind for kind, _, _ in CASES} == set(AlarmKind) == set(EXPLANATIONS)
    assert {rule.__name__ for rule in RULES} == set(AlarmKind)
    for explanation in EXPLANATIONS.values():
        assert explanation.means.endswith(".")
        assert len(explanation.advice) > 20


def test_find_alarms_returns_twenty_of_a_kind() -> None:
    stalled = replace(HOST, silent_s=9_999.0)
    found = find_alarms(replace(WELL, hosts=(stalled,) * 1_000))
    assert len(found) == 20


def test_late_clock_is_one_alarm() -> None:
    [alarm] = find_alarms(all_hosts(lag_s=-400.0))
    assert alarm == Alarm(AlarmKind.OUR_CLOCK, "clock", "7 min behind what 4 hosts say")


def series(registry: CollectorRegistry) -> dict[str, float]:
    lines = generate_latest(registry).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


class _Once:
    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Any:
        return watch_metrics(self.snapshot)


def test_watch_metrics_do_not_grow_with_hosts() -> None:
    few, many = CollectorRegistry(), CollectorRegistry()
    few.register(_Once(WELL))  # type: ignore[arg-type]
    crowd = tuple(
        replace(HOST, hostname=f"h{n}.example.com", silent_s=9_999.0)
        for n in range(500)
    )
    strange = {f"{DROPS}/made-up-{n}": Gauge("", 1, 9.0, 9.0, 1, 1) for n in range(99)}
    many.register(
        _Once(replace(WELL, hosts=crowd, gauges={**WELL.gauges, **strange}))  # type: ignore[arg-type]
    )
    assert series(few).keys() == series(many).keys()
    assert len(series(few)) < 100
    shown = series(many)
    assert shown['bigworld_alarms{kind="host_stalled"}'] == 20
    assert shown['bigworld_alarms{kind="lag"}'] == 0
    assert shown['bigworld_event_rate{over="lately"}'] == 40
    assert 'bigworld_drop_rate{reason="bad_signature"}' in shown


def test_take_snapshot_reads_the_database(pool: Pool) -> None:
    with pool.connection() as conn:
        host, _ = host_rows.put_host(
            conn, "pds.example.com", "https://pds.example.com", source="configured"
        )
        host_rows.note_contact(conn, host, host_rows.HOST_STREAMING)
        conn.execute(
            "UPDATE host SET usual_rate = 5, rate = 5,"
            " first_seen = now() - interval '2 days',"
            " last_event_at = now() - interval '1 hour'"
        )
        conn.execute(
            "INSERT INTO host_cursor (host, seq, updated_at)"
            " VALUES (%s, 7, now() - interval '10 minutes')",
            (host,),
        )
        conn.execute(
            "INSERT INTO quarantined_frame (host, frame, error) VALUES (1, '', 'x')"
        )
        operation_log.note_feed_error(conn, "https://plc.example.com", "out of order")
        operation_log.note_caught_up(conn, "https://well.example.com", time.time())
        operation_log.note_feed_error(conn, "https://well.example.com", "away for once")
        save_gauges(conn, [(EVENTS, 100.0, 0.1, 50.0)])
        beat(conn, CRAWL_PULSE, {"queued_bytes": 5, "queue_bytes": 100})
        beat(conn, f"{TASK_PULSE}gone", {"every_s": 60.0})
        beat(conn, f"{TASK_PULSE}here", {"every_s": 60.0})
        forget_heartbeats(conn, TASK_PULSE, [f"{TASK_PULSE}here"])
        conn.execute("UPDATE pulse SET at = now() - interval '1 hour'")
        snapshot = take_snapshot(conn)
    [seen] = snapshot.hosts
    assert seen.lag_s == pytest.approx(3_000, abs=5)
    assert seen.silent_s == pytest.approx(600, abs=5)
    assert {alarm.kind for alarm in find_alarms(snapshot)} == {
        AlarmKind.HOST_STALLED,
        AlarmKind.ALL_SLOW,
        AlarmKind.CRAWL_SILENT,
        AlarmKind.TASK_LATE,
        AlarmKind.QUARANTINE,
        AlarmKind.MIRROR_STUCK,
    }
    assert list(snapshot.mirrors) == ["https://plc.example.com"]
    registry = CollectorRegistry()
    registry.register(WatchCollector(pool))
    assert series(registry)['bigworld_alarms{kind="all_slow"}'] == 1


def test_labelers_that_fail_or_are_silent_for_long_are_away() -> None:
    streams = (
        StreamHealth("did:plc:a", 7_200.0, None, "refused"),
        StreamHealth("did:plc:b", None, 400_000.0, None),
        StreamHealth("did:plc:c", 60.0, 60.0, "refused"),
    )
    found = find_alarms(replace(WELL, labelers=streams))
    assert [(a.kind, a.subject, a.detail) for a in found] == [
        (AlarmKind.LABELER_AWAY, "did:plc:a", "failing for 2 h: refused"),
        (AlarmKind.LABELER_AWAY, "did:plc:b", "silent for 111 h"),
    ]


class _Tasks:
    """A stand-in for the Celery application."""

    def __init__(self) -> None:
        self.work: dict[str, Callable[[], None]] = {}

    def task(self, name: str) -> Callable[[Callable[[], None]], None]:
        return lambda work: self.work.update({name: work})


def test_task_that_always_fails_is_late(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any) -> None:
        raise RuntimeError("each time")

    tasks = {
        "fails": ScheduledTask(fail, 60.0),
        "works": ScheduledTask(lambda _: 1, 60.0),
    }
    monkeypatch.setattr("service.tasks.TASKS", tasks)
    app, side = _Tasks(), SimpleNamespace(pool=pool)
    metrics = TaskMetrics(CollectorRegistry(), tasks.keys())
    register(app, side, metrics)  # type: ignore[arg-type]
    with pool.connection() as conn:
        assert find_alarms(take_snapshot(conn)) == []
        conn.execute("UPDATE pulse SET at = now() - interval '1 hour'")
    app.work["works"]()
    with pytest.raises(RuntimeError):
        app.work["fails"]()
    # A restarted worker does not reset the clock.
    register(app, side, metrics)  # type: ignore[arg-type]
    with pool.connection() as conn:
        [alarm] = find_alarms(take_snapshot(conn))
    assert (alarm.kind, alarm.subject) == (AlarmKind.TASK_LATE, "fails")


def test_harmless_drops_are_drop_reasons() -> None:
    assert set(DropReason) > alarm_rules._HARMLESS


def test_host_away_after_two_failed_tries() -> None:
    own = replace(HOST, tries=1, error="connection refused")
    assert list(alarm_rules.host_away(replace(WELL, hosts=(own,)))) == []
    [alarm] = alarm_rules.host_away(replace(WELL, hosts=(replace(own, tries=2),)))
    assert alarm.kind is AlarmKind.HOST_AWAY
    assert alarm.detail == "reconnecting, 2 tries failed: connection refused"
    unknown = replace(own, tries=9, trusted=False)
    assert list(alarm_rules.host_away(replace(WELL, hosts=(unknown,)))) == []
