from __future__ import annotations

import asyncio
import threading

import pytest

from crawler.frame_queue import FrameQueue


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
    queue.put_now("control")
    assert queue.take(10, 0.0, urgent_only=True) == ["control"]
    assert queue.take(10, 0.0, urgent_only=True) == []
    queue.put_now("another")
    queue.close()
    assert queue.take(10, 0.0) == ["another", "frame"]
    assert queue.take(10, 0.0) is None
