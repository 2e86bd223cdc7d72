"""Rates, hysteresis, the cap on streams, poll intervals, and budgets of streams."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.hosts.activity import (
    ActivityBounds,
    Candidate,
    choose_modes,
    next_poll,
    smooth,
    usual_window,
)
from crawler.live.stream_budget import StreamBudget
from crawler.settings import CrawlSettings
from storage.hosts.host_budget import accounts_allowed

BOUNDS = ActivityBounds(most=10, busy=1 / 60, quiet=1 / 1_200, dwell=3_600.0)
LONG = 10_000.0


def streamed(host: int, rate: float, moved: float = LONG, **more: bool) -> Candidate:
    return Candidate(host, "stream", rate, moved, **more)


def polled(host: int, rate: float, **more: bool) -> Candidate:
    return Candidate(host, "poll", rate, LONG, **more)


def test_smooth_converges_without_overshoot() -> None:
    rate = 0.0
    for _ in range(100):
        rate = smooth(rate, 600, 60.0, 900.0)
    assert rate == pytest.approx(10.0, rel=0.01)
    assert smooth(rate, 0, 900.0, 900.0) == pytest.approx(10.0 * 0.3679, rel=0.01)
    assert smooth(rate, 5, 0.0, 900.0) == rate
    # One long step is as good as many short ones.
    many = 4.0
    for _ in range(60):
        many = smooth(many, 2, 1.0, 900.0)
    assert many == pytest.approx(smooth(4.0, 120, 60.0, 900.0))


def test_usual_rate_is_learnt_in_hours_and_kept_for_days() -> None:
    assert usual_window(10.0, shortest=900.0, longest=9_000.0) == 900.0
    assert usual_window(5_000.0, shortest=900.0, longest=9_000.0) == 5_000.0
    assert usual_window(1e9, shortest=900.0, longest=9_000.0) == 9_000.0


@pytest.mark.parametrize(
    ("candidate", "mode"),
    [
        (streamed(1, 1.0), "stream"),
        (streamed(1, 1 / 1_199), "stream"),
        (streamed(1, 1 / 1_201), "poll"),
        (streamed(1, 0.0, moved=3_599.0), "stream"),
        (polled(1, 1 / 61), "poll"),
        (polled(1, 1 / 59), "stream"),
        (streamed(1, 0.0, kept=True), "stream"),
        (polled(1, 0.0, kept=True), "stream"),
        (streamed(1, 0.0, relay=True), "stream"),
    ],
)
def test_busy_hosts_are_streamed_and_quiet_ones_polled(
    candidate: Candidate, mode: str
) -> None:
    changes = choose_modes([candidate], BOUNDS)
    assert changes.get(1, candidate.mode) == mode


def test_between_the_two_rates_nothing_moves() -> None:
    between = [1 / 70, 1 / 300, 1 / 1_100]
    assert choose_modes([streamed(n, r) for n, r in enumerate(between)], BOUNDS) == {}
    assert choose_modes([polled(n, r) for n, r in enumerate(between)], BOUNDS) == {}


def test_streams_go_to_configured_hosts_then_to_the_busiest() -> None:
    crowd = [streamed(n, float(n)) for n in range(1, 31)]
    own = [streamed(100 + n, 0.0, kept=True) for n in range(3)]
    relay = streamed(200, 0.0, relay=True)
    changes = choose_modes([*crowd, *own, relay], BOUNDS)
    assert set(changes.values()) == {"poll"}
    assert set(changes) == set(range(1, 25))
    # A relay cannot be polled: it is streamed even when there is no place.
    relays = [streamed(300 + n, 0.0, relay=True) for n in range(12)]
    assert choose_modes(relays, BOUNDS) == {}
    assert choose_modes([*relays, streamed(1, 5.0)], BOUNDS) == {1: "poll"}


def test_equal_hosts_keep_their_modes() -> None:
    bounds = ActivityBounds(1, BOUNDS.busy, BOUNDS.quiet, BOUNDS.dwell)
    assert choose_modes([streamed(1, 1.0), polled(2, 1.2)], bounds) == {}
    assert choose_modes([streamed(1, 1.0), polled(2, 1.3)], bounds) == {
        1: "poll",
        2: "stream",
    }


candidates = st.lists(
    st.builds(
        Candidate,
        st.integers(1, 40),
        st.sampled_from(["stream", "poll"]),
        st.floats(0, 10),
        st.floats(0, 9_000),
        st.booleans(),
    ),
    max_size=40,
    unique_by=lambda one: one.id,
)


@given(candidates, st.integers(0, 12))
@settings(max_examples=200)
def test_the_cap_holds_and_the_choice_is_stable(
    crowd: list[Candidate], most: int
) -> None:
    bounds = ActivityBounds(most, BOUNDS.busy, BOUNDS.quiet, BOUNDS.dwell)
    changes = choose_modes(crowd, bounds)
    after = [
        Candidate(one.id, changes.get(one.id, one.mode), one.rate, LONG, one.kept)
        for one in crowd
    ]
    assert sum(one.mode == "stream" for one in after) <= most
    moved = choose_modes(after, bounds)
    # Only what was kept by its dwell alone may still go.
    assert set(moved.values()) <= {"poll", "stream"}
    settled = [
        Candidate(one.id, moved.get(one.id, one.mode), one.rate, LONG, one.kept)
        for one in after
    ]
    assert choose_modes(settled, bounds) == {}


def test_polls_come_less_often_while_nothing_changes() -> None:
    every: float | None = None
    seen = []
    for changed in (False, False, False, False, True, False):
        every = next_poll(every, changed, first=900.0, most=3_600.0)
        seen.append(every)
    assert seen == [900.0, 1_800.0, 3_600.0, 3_600.0, 900.0, 1_800.0]
    assert next_poll(0.0, False, first=900.0, most=3_600.0) == 900.0


def test_untrusted_host_may_add_twice_as_many_accounts_each_day() -> None:
    allowed = [accounts_allowed(d, first_day=100, per_day=10_000) for d in range(9)]
    assert allowed[:4] == [100, 200, 400, 800]
    assert allowed[7:] == [10_000, 10_000]
    assert accounts_allowed(10**6, first_day=100, per_day=10_000) == 10_000
    assert accounts_allowed(-5, first_day=100, per_day=10_000) == 100


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("events_per_s", "bytes_per_s", "size"), [(50, None, 10**6), (None, 50_000, 1_000)]
)
def test_a_stream_is_read_at_the_pace_of_its_budget(
    events_per_s: float | None, bytes_per_s: float | None, size: int
) -> None:
    clock = Clock()
    budget = StreamBudget(events_per_s, bytes_per_s, clock=clock)
    for _ in range(5_000):
        clock.now += budget.spend(size)
    # Ten seconds of it were saved up.
    assert clock.now - 1_000.0 == pytest.approx(5_000 / 50 - 10, abs=0.1)
    clock.now += 5.0
    began = clock.now
    for _ in range(250):
        clock.now += budget.spend(size)
    assert clock.now - began < 0.1


def test_throttled_events_cost_a_tenth() -> None:
    clock = Clock()
    budget = StreamBudget(50, None, clock=clock)
    for passed_over in range(6_000):
        clock.now += budget.spend(1_000, passed_over)
    assert clock.now - 1_000.0 == pytest.approx(6_000 / 500 - 10, abs=0.1)
    # A new connection counts from the beginning, and nothing more can be saved up.
    clock.now += 100.0
    began = clock.now
    for passed_over in range(6_000):
        clock.now += budget.spend(1_000, passed_over)
    assert clock.now - began == pytest.approx(6_000 / 500 - 10, abs=0.1)


def test_no_budget_no_rest() -> None:
    budget = StreamBudget(None, None, clock=Clock())
    assert max(budget.spend(5_000_000) for _ in range(10_000)) == 0.0


def test_crawl_settings_have_the_documented_defaults() -> None:
    crawl = CrawlSettings()
    assert crawl.quiet_rate * 10 < crawl.busy_rate
    assert crawl.host_accounts_first_day == 100
    assert crawl.host_accounts_per_day == 10_000
