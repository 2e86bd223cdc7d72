"""Messages of labelers: signatures, order, faults, positions."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import anyio
import pytest
from labeler_world import LABELER, OTHER, START, Keys, Labeler, resign
from small_world import did

from labels.label_rows import (
    forget_watching,
    load_position,
    note_error,
    save_progress,
    stream_states,
    unhealthy_streams,
)
from labels.label_stream import (
    SUBSCRIBE_LABELS,
    LabelStream,
    RestartedError,
    follow_labelers,
)
from labels.signed_label import MAX_VALUE_BYTES, LabelFault, label_fields
from network.errors import UnreachableError
from network.http.client import Fetcher
from network.http.policy import Policy
from network.server.listener import serving
from network.streams.stream_events import StreamTimes
from network.streams.stream_server import StreamServer
from network.xrpc.server import XrpcServer
from protocol.events.frames import decode_frame, encode_error_frame, encode_frame
from protocol.identity.keys import PrivateKey
from protocol.lexicon import Catalog
from storage.postgres.pool import Conn, Pool
from storage.records.interning import Interner

ACCOUNT = did("alice")
POST = f"at://{ACCOUNT}/app.bsky.feed.post/3jzfcijpj2z2a"


@pytest.fixture
def labeler(pool: Pool, interner: Interner) -> Labeler:
    return Labeler(LABELER, pool, interner)


def stored(conn: Conn) -> dict[tuple[str, str], bool]:
    """Return (uri, val) -> negated of the stored labels."""
    rows = conn.execute("SELECT raw, val, neg FROM label").fetchall()
    conn.rollback()
    return {(label_fields(raw)["uri"], val): neg for raw, val, neg in rows}


def drops(conn: Conn) -> dict[str, int]:
    [state] = stream_states(conn, [LABELER])
    conn.rollback()
    return dict(state["drops"])


async def test_labels_are_stored_with_the_position(
    labeler: Labeler, conn: Conn, interner: Interner
) -> None:
    await labeler.send(labeler.signed(ACCOUNT, "spam"), labeler.signed(POST, "porn"))
    await labeler.label(POST, "rude")
    assert stored(conn).keys() == {(ACCOUNT, "spam"), (POST, "porn"), (POST, "rude")}
    assert load_position(conn, interner.actors([LABELER])[LABELER]) == 2
    [state] = stream_states(conn, [LABELER])
    assert (state["labels"], state["seq"], state["drops"]) == (3, 2, {})


async def test_every_order_of_labels_gives_the_same_result(
    labeler: Labeler, conn: Conn
) -> None:
    day = timedelta(days=1)
    made = [
        labeler.signed(POST, "spam", cts=START),
        labeler.signed(POST, "spam", cts=START + day, neg=True),
        labeler.signed(POST, "rude", cts=START, neg=True),
        labeler.signed(POST, "rude", cts=START),
        labeler.signed(POST, "odd", cts=START, exp=START + day),
        labeler.signed(POST, "odd", cts=START, exp=START + 2 * day),
    ]
    results = set()
    for order in itertools.islice(itertools.permutations(made), 0, 720, 37):
        conn.execute("TRUNCATE label")
        conn.commit()
        split = random.Random(str(order)).randrange(len(order))
        await labeler.send(*order[:split])
        await labeler.send(*order[split:])
        rows = conn.execute("SELECT val, neg, exp FROM label ORDER BY val").fetchall()
        conn.rollback()
        results.add(tuple(rows))
    [found] = results
    assert [(val, neg) for val, neg, _ in found] == [
        ("odd", False),
        ("rude", True),
        ("spam", True),
    ]


async def test_faulty_labels_are_counted_and_spare_their_neighbors(
    labeler: Labeler, conn: Conn
) -> None:
    good = labeler.signed(POST, "good")
    key = labeler.key
    faulty = {
        LabelFault.OTHER_SOURCE: resign(good, key, src=OTHER),
        LabelFault.OTHER_VERSION: resign(good, key, ver=2),
        LabelFault.MALFORMED: 7,
        LabelFault.BAD_VALUE: resign(good, key, val="x" * (MAX_VALUE_BYTES + 1)),
        LabelFault.BAD_CID: resign(good, key, cid="nonsense"),
        LabelFault.BAD_TIME: resign(good, key, cts="yesterday"),
        LabelFault.BAD_SUBJECT: resign(good, key, uri="https://example.com/x"),
        LabelFault.UNSIGNED: {k: v for k, v in good.items() if k != "sig"},
        LabelFault.BAD_SIGNATURE: good | {"val": "forged"},
    }
    await labeler.send(good, *faulty.values())
    assert stored(conn) == {(POST, "good"): False}
    assert drops(conn) == dict.fromkeys(map(str, faulty), 1)
    # A sequence number of 64 bits without a sign.
    small = encode_frame("#labels", {"labels": [], "seq": 0})
    huge = small.replace(b"\x63seq\x00", b"\x63seq\x1b" + b"\xff" * 8)
    assert decode_frame(huge).body["seq"] == 2**64 - 1
    await labeler.stream.take([b"garbage", encode_frame("#labels", {"seq": "x"}), huge])
    assert drops(conn)[LabelFault.BAD_FRAME] == 3
    more = [
        resign(good, key, val=""),
        resign(good, key, val="a\0b"),
        resign(good, key, val=9),
        resign(good, key, uri="at://alice.test/app.bsky.feed.post/1"),
        resign(good, key, uri=f"at://{ACCOUNT}"),
        resign(good, key, uri=f"at://{ACCOUNT}/app.bsky.feed.post"),
        resign(good, key, neg="yes"),
        resign(good, key, exp="never"),
        resign(good, key, cts="0000-06-01T00:00:00Z"),
    ]
    await labeler.send(*more)
    assert stored(conn) == {(POST, "good"): False}


async def test_labels_of_far_years_and_with_unknown_fields_are_kept(
    labeler: Labeler, conn: Conn
) -> None:
    old = labeler.signed(POST, "old")
    for year in (1066, 2148):
        cts = f"{year}-01-01T00:00:00.000Z"
        await labeler.send(resign(old, labeler.key, val=f"in-{year}", cts=cts))
    # A signature covers the fields of the schema only.
    await labeler.send(old | {"$type": "com.atproto.label.defs#label", "more": 1})
    assert {val for _, val in stored(conn)} == {"old", "in-1066", "in-2148"}
    assert drops(conn) == {}


async def test_a_rotated_key_is_refreshed_once(labeler: Labeler, conn: Conn) -> None:
    await labeler.label(POST, "before")
    labeler.key = labeler.keys.now[LABELER] = PrivateKey.generate("p256")
    await labeler.label(POST, "after")
    assert labeler.keys.refreshed == 1
    assert {val for _, val in stored(conn)} == {"before", "after"}
    labeler.key = PrivateKey.generate("k256")
    await labeler.label(POST, "of-another-key")
    assert drops(conn) == {"bad_signature": 1}


async def test_a_message_waits_for_a_key_that_cannot_be_refreshed(
    labeler: Labeler, conn: Conn
) -> None:
    await labeler.label(POST, "before")
    labeler.key = labeler.keys.now[LABELER] = PrivateKey.generate("k256")
    labeler.keys.is_away = True
    frame = labeler.frame(labeler.signed(POST, "after"))
    with pytest.raises(UnreachableError):
        await labeler.stream.take([frame])
    [state] = stream_states(conn, [LABELER])
    conn.rollback()
    assert (state["seq"], state["drops"]) == (1, {})
    labeler.keys.is_away = False
    await labeler.stream.take([frame])
    assert (POST, "after") in stored(conn)


async def test_a_labeler_without_a_key_labels_nothing(
    labeler: Labeler, conn: Conn
) -> None:
    labeler.keys.now[LABELER] = None
    await labeler.label(POST, "spam")
    assert stored(conn) == {}
    assert drops(conn) == {"bad_signature": 1}


async def test_a_restarted_stream_is_read_from_its_start(
    labeler: Labeler, conn: Conn, interner: Interner
) -> None:
    labeler.seq = 40
    await labeler.label(POST, "spam")
    with pytest.raises(RestartedError):
        await labeler.stream.take([encode_error_frame("FutureCursor")])
    assert load_position(conn, interner.actors([LABELER])[LABELER]) == 0
    labeler.seq = 0
    await labeler.label(POST, "rude")
    assert load_position(conn, interner.actors([LABELER])[LABELER]) == 1


class _Sent:
    """A stream of given frames."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        self.frames = list(enumerate(frames, 1))

    async def tail(self) -> int:
        return len(self.frames)

    async def oldest(self) -> int:
        return min(1, len(self.frames))

    async def events_after(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        return [item for item in self.frames if item[0] > seq][:limit]


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    async with Fetcher(Policy(allow_loopback=True, stream_dials_per_s=1e3)) as fetcher:
        yield fetcher


async def _until(conn: Conn, count: int) -> dict[tuple[str, str], bool]:
    with anyio.fail_after(20):
        while len(found := stored(conn)) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found


async def test_a_subscription_resumes_behind_its_last_message(
    labeler: Labeler, conn: Conn, pool: Pool, interner: Interner, fetcher: Fetcher
) -> None:
    sent = _Sent([labeler.frame(labeler.signed(POST, f"v{i}")) for i in range(30)])
    cursors: list[Any] = []
    server = XrpcServer(Catalog.load())
    stream = StreamServer(sent, poll=0.05)

    async def serve(websocket: Any, params: Any) -> None:
        cursors.append(params.get("cursor"))
        await stream(websocket, params)

    server.route_subscription(SUBSCRIBE_LABELS, serve)
    async with serving(server.app()) as url:
        keys = Keys({LABELER: labeler.key}, url=url)

        def follow() -> asyncio.Task[None]:
            follower = LabelStream(
                LABELER,
                fetcher,
                keys,  # type: ignore[arg-type]
                pool,
                interner,
                times=StreamTimes(first=0.01),
            )
            return asyncio.create_task(follower.run())

        first = follow()
        await _until(conn, 30)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        sent.frames.append((31, labeler.frame(labeler.signed(POST, "late"))))
        second = follow()
        found = await _until(conn, 31)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
    assert (POST, "late") in found
    assert cursors == [0, 30]


async def test_an_unreachable_labeler_is_retried_and_shown(
    conn: Conn, pool: Pool, interner: Interner, fetcher: Fetcher
) -> None:
    keys = Keys({LABELER: PrivateKey.generate("k256")}, url="http://localhost:9")
    stream = LabelStream(
        LABELER,
        fetcher,
        keys,  # type: ignore[arg-type]
        pool,
        interner,
        times=StreamTimes(first=0.001, longest=0.01),
    )
    following = asyncio.create_task(stream.run())
    with anyio.fail_after(20):
        while not (error := stream_states(conn, [LABELER])[0]["error"]):
            conn.rollback()
            await asyncio.sleep(0.05)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert "localhost:9" in error
    conn.rollback()
    with conn.transaction():
        conn.execute(
            "UPDATE label_stream SET failing_since = failing_since - interval '1 hour'"
        )
    # A further error does not begin anew.
    [src] = interner.actors([LABELER]).values()
    with conn.transaction():
        note_error(conn, src, "away")
    [failing] = unhealthy_streams(conn, 1_800.0, 86_400.0)
    assert (failing.labeler, failing.error) == (LABELER, "away")
    assert failing.failing_s is not None
    assert failing.failing_s > 3_500
    assert unhealthy_streams(conn, 7_200.0, 86_400.0) == []
    conn.rollback()
    with conn.transaction():
        forget_watching(conn, [src])
    assert len(unhealthy_streams(conn, 1_800.0, 86_400.0)) == 1
    conn.rollback()
    with conn.transaction():
        forget_watching(conn, [])
    assert unhealthy_streams(conn, 1_800.0, 86_400.0) == []


async def test_a_connection_ends_the_failure_of_a_quiet_labeler(
    labeler: Labeler, conn: Conn, pool: Pool, interner: Interner, fetcher: Fetcher
) -> None:
    [src] = interner.actors([LABELER]).values()
    with conn.transaction():
        note_error(conn, src, "away")
    server = XrpcServer(Catalog.load())
    server.route_subscription(SUBSCRIBE_LABELS, StreamServer(_Sent([]), poll=0.05))
    async with serving(server.app()) as url:
        stream = LabelStream(
            LABELER,
            fetcher,
            Keys({LABELER: labeler.key}, url=url),  # type: ignore[arg-type]
            pool,
            interner,
            times=StreamTimes(first=0.01),
        )
        following = asyncio.create_task(stream.run())
        with anyio.fail_after(20):
            while unhealthy_streams(conn, 0.0, 86_400.0):
                conn.rollback()
                await asyncio.sleep(0.05)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert stream_states(conn, [LABELER])[0]["error"] is None


def test_silent_streams_are_unhealthy(conn: Conn, interner: Interner) -> None:
    [src] = interner.actors([LABELER]).values()
    with conn.transaction():
        save_progress(conn, src, 1, [])
        conn.execute("UPDATE label_stream SET seen_at = now() - interval '2 days'")
    [silent] = unhealthy_streams(conn, 1_800.0, 86_400.0)
    assert (silent.labeler, silent.failing_s) == (LABELER, None)
    assert unhealthy_streams(conn, 1_800.0, 259_200.0) == []


class _Broken(LabelStream):
    async def run(self) -> None:
        raise ZeroDivisionError


async def test_labelers_are_followed_until_the_stop(
    conn: Conn, pool: Pool, interner: Interner, fetcher: Fetcher
) -> None:
    keys: Any = Keys({LABELER: PrivateKey.generate("k256")}, url="http://localhost:9")
    stop = asyncio.Event()
    streams = [LabelStream(LABELER, fetcher, keys, pool, interner)]
    following = asyncio.create_task(follow_labelers(streams, stop))
    await asyncio.sleep(0.1)
    assert not following.done()
    stop.set()
    with anyio.fail_after(10):
        await following
    # A bug ends the process instead of one labeler in silence.
    streams.append(_Broken(OTHER, fetcher, keys, pool, interner))
    with anyio.fail_after(10), pytest.raises(ZeroDivisionError):
        await follow_labelers(streams, asyncio.Event())
    with anyio.fail_after(10):
        stopped = asyncio.Event()
        stopped.set()
        await follow_labelers([], stopped)
