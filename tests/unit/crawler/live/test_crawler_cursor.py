"""No cursor reaches the sink before all that it covers: however batches are cut, when
the database fails, and while a poisonous event is looked for.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from test_crawler_pipeline import _Applied, _Line, _Sink, names

from crawler.live.pipeline import Pipeline
from crawler.settings import CrawlSettings
from protocol.events.event import Event
from storage.postgres.pool import Pool


@dataclass
class StrictSink(_Sink):
    """Looks at each cursor: what it covers must be here, or set aside by now."""

    draw: random.Random = field(default_factory=lambda: random.Random(11))
    poisons: frozenset[str] = frozenset()
    done: set[int] = field(default_factory=set)
    ahead: list[tuple[int, list[int]]] = field(default_factory=list)

    def apply(self, events: Sequence[Event], marks: Mapping[int, int]) -> _Applied:
        if self.draw.random() < 0.1:
            raise psycopg.OperationalError("away")
        if any(event.did in self.poisons for event in events):
            raise ValueError("poison")
        self.done |= {event.seq for event in events}
        with self.pool.connection() as conn:
            aside = conn.execute("SELECT seq FROM quarantined_frame").fetchall()
        covered = self.done | {seq for (seq,) in aside}
        for mark in marks.values():
            missing = sorted(set(range(1, mark + 1)) - covered)
            if missing:
                self.ahead.append((mark, missing))
        return super().apply((), marks)


def run(pool: Pool, poisons: list[bytes]) -> StrictSink:
    sink = StrictSink(pool, poisons=frozenset(raw.decode() for raw in poisons))
    settings = CrawlSettings(batch_events=20, flush_interval=0.05)
    line = _Line(pool, sink, settings)
    line.run(*names(600))
    assert line.cursor() == 600
    assert len(sink.done) == 600 - len(poisons)
    return sink


@pytest.mark.parametrize("poisoned", [[], [0], [17], [599], [3, 4, 250, 251, 590]])
def test_no_cursor_is_ahead_of_its_events(pool: Pool, poisoned: list[int]) -> None:
    frames = names(600)
    assert run(pool, [frames[n] for n in poisoned]).ahead == []


def test_cursor_ahead_of_events_is_detected(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Pipeline._apply_events

    def cursor_first(self: Any, events: Sequence[Event], marks: Any) -> Any:
        real(self, (), marks)
        return real(self, events, {})

    monkeypatch.setattr(Pipeline, "_apply_events", cursor_first)
    assert run(pool, []).ahead != []
