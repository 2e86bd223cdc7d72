"""The queue of frames: bounds, lanes and rounds."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from crawler.live.frame_queue import FrameQueue


def test_a_full_queue_stops_the_reader_and_keeps_the_order() -> None:
    queue: FrameQueue[int] = FrameQueue(max_bytes=1_000)
    taken: list[int] = []
    highest = 0

    async def produce() -> None:
        nonlocal highest
        for n in range(2_000):
            await queue.put(n, 100)
            highest = max(highest, queue.size)
        queue.close()

    def consume() -> None:
        while (items := queue.take(7, 1.0)) is not None:
            taken.extend(items)

    thread = threading.Thread(target=consume)
    thread.start()
    asyncio.run(produce())
    thread.join(10)
    assert taken == list(range(2_000))
    assert highest <= 1_000


def test_an_item_over_the_bound_passes_alone() -> None:
    queue: FrameQueue[str] = FrameQueue(max_bytes=10)

    async def run() -> None:
        await queue.put("huge", 5_000)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.put("next", 1), 0.05)

    asyncio.run(run())
    assert queue.take(10, 0.0) == ["huge"]
    assert queue.take(10, 0.0) == []
    asyncio.run(queue.put("frame", 1))
    queue.close()
    assert queue.take(10, 0.0) == ["frame"]
    assert queue.take(10, 0.0) is None


def test_flooded_lane_delays_only_itself() -> None:
    """However much one host sends, the frames of others are in the next round."""
    queue: FrameQueue[tuple[str, int]] = FrameQueue(10**6, lane=lambda item: item[0])
    queue.put_batch((("flood", n), 1) for n in range(5_000))
    queue.put_batch((("quiet", n), 1) for n in range(3))
    queue.put_batch((("other", n), 1) for n in range(400))
    first = queue.take(256, 0.0)
    assert first is not None
    assert len(first) == 256
    assert [item for item in first if item[0] == "quiet"] == [
        ("quiet", n) for n in range(3)
    ]
    queue.close()
    taken = list(first)
    while (items := queue.take(256, 0.0)) is not None:
        taken += items
    for lane, count in ("flood", 5_000), ("quiet", 3), ("other", 400):
        assert [n for name, n in taken if name == lane] == list(range(count))
    assert queue.size == 0


def test_lanes_take_turns() -> None:
    queue: FrameQueue[int] = FrameQueue(10**6, lane=lambda item: item % 10)
    queue.put_batch((n, 1) for n in range(100))
    turns = [queue.take(4, 0.0) for _ in range(5)]
    assert [n for taken in turns for n in taken or ()] == list(range(20))


def test_a_round_of_large_items_is_shorter() -> None:
    queue: FrameQueue[tuple[str, int]] = FrameQueue(10**6, lane=lambda item: item[0])
    queue.put_batch((("large", n), 1_000) for n in range(50))
    queue.put_batch((("small", n), 10) for n in range(50))
    rounds = []
    while queue.size:
        taken = queue.take(16, 0.0, most_bytes=4_000)
        assert taken
        sizes = [1_000 if name == "large" else 10 for name, _ in taken]
        # Over the bound by the last of them at most.
        assert sum(sizes[:-1]) < 4_000
        rounds.append(taken)
    for lane in "large", "small":
        numbers = [n for taken in rounds for name, n in taken if name == lane]
        assert numbers == list(range(50))
    # Neither lane keeps the other waiting until it is done.
    assert {name for taken in rounds[:2] for name, _ in taken} == {"large", "small"}


@pytest.mark.parametrize("size", [3, 30])
def test_put_batch_waits_while_the_queue_is_full(size: int) -> None:
    frames: FrameQueue[int] = FrameQueue(10)
    thread = threading.Thread(
        target=frames.put_batch, args=([(n, size) for n in range(50)],)
    )
    thread.start()
    taken: list[int] = []
    while len(taken) < 50:
        assert frames.size <= max(10, size)
        taken += frames.take(2, 5.0) or []
    thread.join(10)
    assert taken == list(range(50))
    full: FrameQueue[int] = FrameQueue(10)
    stuck = threading.Thread(target=full.put_batch, args=([(1, 9), (2, 9)],))
    stuck.start()
    time.sleep(0.05)
    full.close()
    stuck.join(10)
    assert not stuck.is_alive(), "a queue that is closed holds nobody"
