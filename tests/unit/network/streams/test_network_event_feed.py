"""Followers of a source that prunes events: a gap is never skipped."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback_peers import until

from network.streams.event_feed import EventFeed, Ring, TooSlowError

Hook = Callable[[int], None]


class Source:
    """A source whose events are their own numbers.

    `after_read` runs between reading a page and returning it, as time passes in a
    database.
    """

    def __init__(self, last: int = 0) -> None:
        self.last = last
        self.kept = 1
        self.hidden: set[int] = set()
        self.after_read: Hook = lambda seq: None

    async def tail(self) -> int:
        return self.last

    async def oldest(self) -> int:
        return self.kept

    async def events_after(self, seq: int, limit: int) -> Sequence[tuple[int, bytes]]:
        first = max(seq + 1, self.kept)
        shown = [n for n in range(first, self.last + 1) if n not in self.hidden]
        found = [(n, b"%d" % n) for n in shown[:limit]]
        self.after_read(seq)
        await asyncio.sleep(0)
        return found


async def test_replay_of_pruned_events_raises() -> None:
    source = Source(100)
    feed = EventFeed(source, page=10)
    ring = await feed.join()
    events, live = await feed.next_events(ring, 0, live=False)
    assert (events[-1][0], live) == (10, False)
    for kept in (31, 101):
        # Prune a part of the next events, then all of them.
        source.kept = kept
        with pytest.raises(TooSlowError):
            await feed.next_events(ring, 10, live=live)
    feed.leave()


async def test_events_during_an_empty_read_are_not_skipped() -> None:
    source = Source(10)
    source.hidden = set(range(1, 11))
    feed = EventFeed(source, page=5, ring_events=3)
    ring = await feed.join()

    def busy(seq: int) -> None:
        # The read found nothing; meanwhile the ring moves far ahead.
        source.after_read = lambda seq: None
        source.last = 60
        ring.extend([(n, b"%d" % n) for n in range(11, 61)])

    source.after_read = busy
    events, _ = await feed.next_events(ring, 2, live=False)
    assert events[0][0] == 11
    feed.leave()


async def test_late_feeder_raises_for_live_followers() -> None:
    source = Source(10)
    feed = EventFeed(source, poll=0.01)
    ring = await feed.join()
    source.last = 12
    assert [n for n, _ in (await feed.next_events(ring, 10, live=True))[0]] == [11, 12]
    source.last, source.kept = 40, 31
    await until(lambda: ring.last == 40)
    with pytest.raises(TooSlowError):
        await feed.next_events(ring, 12, live=True)
    feed.leave()


@pytest.mark.parametrize("seed", range(40))
async def test_followers_see_every_event_or_an_error(seed: int) -> None:
    """Run a writer, a pruning source and followers of every speed at once.

    Each follower sees every event from its cursor on, in order and once, or an error.
    """
    rng = random.Random(seed)
    source = Source(rng.randrange(50))
    source.hidden = {n for n in range(1, 400) if rng.random() < 0.3}
    feed = EventFeed(source, poll=0.001, page=rng.randint(1, 8), ring_events=6)
    ends: list[bool] = []

    def pass_time(seq: int) -> None:
        if source.last < 390:
            source.last += rng.choice((0, 0, 1, 9))
        if rng.random() < 0.05:
            source.kept = rng.randint(source.kept, source.last + 1)

    async def follow() -> None:
        dice = random.Random(rng.random())
        ring: Ring[bytes] = await feed.join()
        try:
            oldest = await source.oldest()
            begin = position = max(dice.randint(0, source.last), oldest - 1)
            seen: list[int] = []
            live = False
            while position < 390 and len(seen) < 200:
                events, live = await feed.next_events(ring, position, live=live)
                seen += [n for n, _ in events]
                position = events[-1][0]
                shown = [
                    n for n in range(begin + 1, position + 1) if n not in source.hidden
                ]
                assert seen == shown
                if dice.random() < 0.1:
                    await asyncio.sleep(0.002)
            ends.append(True)
        except TooSlowError:
            ends.append(False)
        finally:
            feed.leave()

    source.after_read = pass_time
    followers = [asyncio.create_task(follow()) for _ in range(6)]
    while not all(task.done() for task in followers):
        source.last = min(400, source.last + 3)
        await asyncio.sleep(0.001)
    await asyncio.gather(*followers)
    assert len(ends) == 6


@given(
    st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=8), max_size=12),
    st.integers(1, 10),
    st.integers(1, 200),
)
def test_ring_keeps_the_last_frames(
    batches: list[list[int]], max_frames: int, max_bytes: int
) -> None:
    ring: Ring[bytes] = Ring(100, max_frames, max_bytes)
    everything: list[tuple[int, bytes]] = []
    for sizes in batches:
        last = ring.last
        batch = [(last + n + 1, bytes(size)) for n, size in enumerate(sizes)]
        everything += batch
        ring.extend(batch)
        kept = ring.after(ring.floor, 1_000)
        assert kept == everything[-len(kept) :]
        assert kept[0][0] == ring.floor + 1
        assert len(kept) <= max_frames
        assert len(kept) == 1 or sum(len(frame) for _, frame in kept) <= max_bytes
        assert ring.last == everything[-1][0]
        assert ring.after(ring.last, 10) == []
        for start in range(ring.floor, ring.last):
            assert ring.after(start, 2) == [e for e in kept if e[0] > start][:2]
        # No frame within the bounds was dropped.
        before = everything[-len(kept) - 1 : -len(kept)]
        if before and len(kept) < max_frames:
            assert sum(len(frame) for _, frame in [*before, *kept]) > max_bytes
