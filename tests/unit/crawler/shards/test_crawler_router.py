"""The router, with threads in place of shards."""

from __future__ import annotations

import asyncio
import socket

import pytest
from routed_shards import SHARDS, did, frame, routing, wait_until

from crawler.live.stream_state import Fault
from crawler.shards.router import _MARK_EVERY as MARK_EVERY
from crawler.shards.shard_link import ShardLink
from crawler.shards.shard_wire import Kind, StreamFault, Throttled, Wake, shard_of
from protocol.data import cbor
from protocol.events.frames import encode_error_frame, encode_frame
from storage.postgres.pool import Pool


@pytest.mark.anyio
async def test_each_account_has_one_shard_and_all_know_the_position(pool: Pool) -> None:
    async with routing(pool) as routed:
        stream = routed.stream(100)
        sent = [(101 + n, frame(did(n % 7), 101 + n)) for n in range(60)]
        for _, raw in sent:
            await routed.router.put(stream, raw)
        await wait_until(
            lambda: (
                all(shard.of(Kind.MARK) for shard in routed.shards)
                and sum(len(shard.of(Kind.FRAME)) for shard in routed.shards) == 60
            )
        )
        for shard in routed.shards:
            mine = [(s - 1, r) for s, r in sent if shard_of_frame(s) == shard.pid]
            assert shard.of(Kind.FRAME) == mine, "in order, each behind the one before"
            assert shard.of(Kind.MARK)[-1][0] == 160
            assert shard.messages[0][0] == Kind.OPEN
        assert stream.last_seq == 160


def shard_of_frame(seq: int) -> int:
    return shard_of(did((seq - 101) % 7), SHARDS)


@pytest.mark.anyio
async def test_a_mark_never_passes_over_a_frame(pool: Pool) -> None:
    """A mark is sent after all frames up to its position."""
    async with routing(pool) as routed:
        stream = routed.stream(0)
        for seq in range(1, 400):
            await routed.router.put(stream, frame(did(seq % 5), seq))
            if seq % 50 == 0:
                await asyncio.sleep(0.1)
        await wait_until(
            lambda: all((399, b"") in shard.of(Kind.MARK) for shard in routed.shards)
        )
        for shard in routed.shards:
            came = 0
            for kind, _, position, _ in shard.messages:
                if kind == Kind.FRAME:
                    came = position + 1
                elif kind == Kind.MARK:
                    owned = [
                        seq
                        for seq in range(1, position + 1)
                        if shard_of(did(seq % 5), SHARDS) == shard.pid
                    ]
                    assert came == (owned[-1] if owned else 0)


@pytest.mark.anyio
async def test_frame_without_seq_does_not_move_the_stream(pool: Pool) -> None:
    async with routing(pool) as routed:
        stream = routed.stream(5)
        unknown = cbor.encode({"op": 2, "t": "#commit"})
        for raw in (
            encode_frame("#info", {"name": "Hello", "seq": 900}),
            unknown + cbor.encode({"repo": did(1), "seq": 900}),
            frame(did(1), 6),
        ):
            await routed.router.put(stream, raw)
        assert stream.last_seq == 6
        await wait_until(
            lambda: sum(len(shard.of(Kind.FRAME)) for shard in routed.shards) == 3
        )
        for shard in routed.shards:
            assert {position for position, _ in shard.of(Kind.FRAME)} <= {5}


@pytest.mark.anyio
async def test_frame_without_account_goes_to_the_first_shard(pool: Pool) -> None:
    async with routing(pool) as routed:
        stream = routed.stream(5)
        odd = [
            b"",
            b"\xff",
            encode_error_frame("FutureCursor"),
            encode_frame("#info", {"name": "OutdatedCursor"}),
        ]
        for raw in odd:
            await routed.router.put(stream, raw)
        await wait_until(lambda: len(routed.shards[0].of(Kind.FRAME)) == len(odd))
        assert [raw for _, raw in routed.shards[0].of(Kind.FRAME)] == odd
        assert stream.last_seq == 5


@pytest.mark.anyio
async def test_numbers_that_do_not_rise_are_judged_by_a_shard(pool: Pool) -> None:
    async with routing(pool) as routed:
        stream = routed.stream(7)
        mine = next(n for n in range(9) if shard_of(did(n), SHARDS) == 1)
        for seq in (7, 8, 8, 3, 2**53, True):
            await routed.router.put(stream, frame(did(mine), seq))
        await wait_until(lambda: len(routed.shards[1].of(Kind.FRAME)) == 5)
        # The frame at the cursor came again: nobody's fault, and passed over.
        positions = [position for position, _ in routed.shards[1].of(Kind.FRAME)]
        assert positions == [7, 8, 8, 8, 8]
        assert stream.last_seq == 8


@pytest.mark.anyio
async def test_a_message_goes_where_it_is_judged(pool: Pool) -> None:
    """A frame may name two accounts: the one that the judge reads counts."""
    async with routing(pool) as routed:
        stream = routed.stream(0)
        first = next(n for n in range(9) if shard_of(did(n), SHARDS) == 1)
        other = next(n for n in range(9) if shard_of(did(n), SHARDS) == 2)
        await routed.router.put(stream, frame(did(first), 1, did=did(other)))
        await routed.router.put(stream, frame(did(first), 2, "#sync", repo=did(other)))
        await wait_until(lambda: len(routed.shards[1].of(Kind.FRAME)) == 2)
        assert routed.shards[2].of(Kind.FRAME) == []


@pytest.mark.anyio
async def test_a_stream_from_its_tip_gives_every_shard_a_cursor(pool: Pool) -> None:
    async with routing(pool) as routed:
        stream = routed.stream(None)
        await routed.router.put(stream, encode_frame("#info", {"name": "hello"}))
        assert routed.rows() == {}
        await routed.router.put(stream, frame(did(1), 50))
        assert routed.rows() == {0: 49, 1: 49, 2: 49}


@pytest.mark.anyio
async def test_a_fault_takes_the_position_back(pool: Pool) -> None:
    async with routing(pool) as routed:
        stream = routed.stream(0)
        closed = []
        stream.on_fault = lambda: closed.append(True)
        for seq in range(1, 5):
            await routed.router.put(stream, frame(did(seq), seq))
        number = routed.router._streams[routed.host].number
        routed.shards[1].say(StreamFault(number, Fault.BAD_FRAME, "why", 2))
        await wait_until(lambda: closed)
        assert (stream.last_seq, stream.fault) == (2, Fault.BAD_FRAME)
        await routed.router.put(stream, frame(did(9), 9))
        assert stream.last_seq == 2, "nothing more of this stream is taken"
        routed.shards[1].say(
            StreamFault(number + 7, Fault.ERROR, "of an old stream", 1)
        )
        routed.shards[1].say(Wake(repos=True))
        await wait_until(lambda: routed.woken)
        assert stream.last_seq == 2


@pytest.mark.anyio
async def test_throttled_frames_are_counted_for_their_stream(pool: Pool) -> None:
    async with routing(pool) as routed:
        stream = routed.stream(0)
        await routed.router.put(stream, frame(did(1), 1))
        number = routed.router._streams[routed.host].number
        routed.shards[0].say(Throttled(number, 5))
        routed.shards[1].say(Throttled(number, 7))
        routed.shards[1].say(Throttled(number + 7, 1_000))
        await wait_until(lambda: stream.throttled == 12)


@pytest.mark.anyio
async def test_a_host_that_numbers_anew_takes_every_shard_back(pool: Pool) -> None:
    async with routing(pool) as routed:
        stream = routed.stream(900)
        await routed.router.put(stream, frame(did(1), 901))
        await routed.router.reset(routed.host)
        stream = routed.stream(None)
        await routed.router.put(stream, frame(did(1), 6))
        await routed.router.put(stream, frame(did(2), 7))
        await wait_until(lambda: all(s.of(Kind.RESET) for s in routed.shards))
        for shard in routed.shards:
            assert shard.of(Kind.RESET) == [(5, b"")]
            kinds = [kind for kind, *_ in shard.messages]
            last_frame = max(
                (n for n, kind in enumerate(kinds) if kind == Kind.FRAME), default=99
            )
            assert kinds.index(Kind.RESET) < last_frame
        assert set(routed.rows().values()) == {5}


@pytest.mark.anyio
async def test_a_slow_shard_holds_the_reader_back(pool: Pool) -> None:
    async with routing(pool) as routed:
        stream = routed.stream(0)
        target = did(1)
        slow = routed.shards[shard_of(target, SHARDS)]
        slow.slow.clear()
        taken = 0

        async def read() -> None:
            nonlocal taken
            for seq in range(1, 200):
                await routed.router.put(stream, frame(target, seq, blob="x" * 100_000))
                taken = seq

        task = asyncio.create_task(read())
        await asyncio.sleep(1.0)
        assert 0 < taken < 100, "what waits is bounded"
        assert routed.router.queued_bytes < 8 * 1024 * 1024
        slow.slow.set()
        await asyncio.wait_for(task, 30)
        await wait_until(lambda: len(slow.of(Kind.FRAME)) == 199)


@pytest.mark.anyio
async def test_a_dead_shard_is_started_anew_and_the_stream_with_it(pool: Pool) -> None:
    async with routing(pool) as routed:
        stream = routed.stream(0)
        await routed.router.put(stream, frame(did(1), 1))
        routed.shards[1].die()
        await asyncio.wait_for(routed.router.broken.wait(), 20)
        mine = next(n for n in range(9) if shard_of(did(n), SHARDS) == 1)
        waiting = asyncio.create_task(routed.router.put(stream, frame(did(mine), 2)))
        await asyncio.sleep(0.1)
        assert not waiting.done(), "frames wait until somebody can take them"
        waiting.cancel()
        await routed.router.revive()
        assert [shard.pid for shard in routed.shards] == [0, 1, 2, 1]
        again = routed.stream(0)
        await routed.router.put(again, frame(did(mine), 1))
        await wait_until(lambda: routed.shards[3].of(Kind.FRAME))
        await routed.router.put(stream, frame(did(mine), 3))
        await routed.router.put(again, frame(did(mine), 2))
        await wait_until(lambda: len(routed.shards[3].of(Kind.FRAME)) > 1)
        came = [raw for _, raw in routed.shards[3].of(Kind.FRAME)]
        wanted = [frame(did(mine), seq) for seq in (1, 2)]
        assert came == wanted, "the old stream is over"


@pytest.mark.anyio
async def test_new_shard_knows_no_stream_before_it_is_opened(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with routing(pool) as routed:
        stream = routed.stream(0)
        await routed.router.put(stream, frame(did(1), 1))
        await wait_until(lambda: routed.shards[1].of(Kind.MARK))
        routed.shards[1].die()
        await asyncio.wait_for(routed.router.broken.wait(), 20)
        opened = ShardLink.open

        async def open_slowly(link: ShardLink) -> None:
            await opened(link)
            # The others are to be told how far the stream came.
            stream.last_seq = 2
            await asyncio.sleep(2 * MARK_EVERY)

        monkeypatch.setattr(ShardLink, "open", open_slowly)
        await routed.router.revive()
        await asyncio.sleep(0.1)
        assert len(routed.shards) == 4
        assert routed.shards[3].messages == []


@pytest.mark.anyio
async def test_shard_with_malformed_messages_is_restarted(pool: Pool) -> None:
    async with routing(pool) as routed:
        routed.shards[2].say("nonsense")
        await asyncio.wait_for(routed.router.broken.wait(), 20)
        await routed.router.revive()
        assert [shard.pid for shard in routed.shards] == [0, 1, 2, 2]


def test_a_shard_sees_that_its_router_is_gone() -> None:
    from service.shards import is_abandoned

    router, shard = socket.socketpair()
    with shard:
        assert not is_abandoned(shard)
        router.sendall(b"an answer")
        assert not is_abandoned(shard)
        assert shard.recv(100) == b"an answer"
        router.close()
        assert is_abandoned(shard)
