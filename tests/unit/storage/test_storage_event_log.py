"""The event log: complete for readers, in any order of commits."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import psycopg
import pytest

from storage.postgres.pool import Conn, connect
from storage.records import event_log

FOREVER = 2**62


def frames_of(conn: Conn, seq: int = 0) -> list[bytes]:
    frames = []
    while found := event_log.events_after(conn, seq, 1_000_000):
        frames += [event.frame for event in found]
        seq = found[-1].seq
    return frames


def test_frames_get_numbers_and_times_in_order(conn: Conn) -> None:
    event_log.append(conn, [b"a", b"b"])
    conn.commit()
    assert event_log.events_after(conn, 0, 10) == []
    assert event_log.number_events(conn, 1_000) == 2
    event_log.append(conn, [b"c"])
    conn.commit()
    # The clock may stand still or go back: times never do.
    assert event_log.number_events(conn, 500) == 1
    assert event_log.number_events(conn, 9_000) == 0
    assert event_log.events_after(conn, 0, 10) == [
        (1, 1_000, b"a"),
        (2, 1_001, b"b"),
        (3, 1_002, b"c"),
    ]
    assert event_log.events_after(conn, 1, 1) == [(2, 1_001, b"b")]
    assert event_log.load_tail(conn) == (3, 1_002)


@pytest.mark.parametrize(
    ("time_us", "after"),
    [(0, 0), (999, 0), (1_000, 0), (1_001, 1), (1_002, 2), (4_999, 2), (5_000, 2)],
)
def test_a_time_is_found(conn: Conn, time_us: int, after: int) -> None:
    for frames, now in (([b"a", b"b"], 1_000), ([b"c"], 5_000)):
        event_log.append(conn, frames)
        conn.commit()
        event_log.number_events(conn, now)
    assert event_log.find_seq(conn, time_us) == after
    assert event_log.find_seq(conn, 5_001) == 3
    seen = event_log.events_after(conn, event_log.find_seq(conn, time_us), 10)
    assert [event.time_us for event in seen] == [
        at for at in (1_000, 1_001, 5_000) if at >= time_us
    ]


def test_each_message_of_an_event_has_a_time(conn: Conn) -> None:
    event_log.append(conn, [b"a", b"b", b"c", b"d"], [3, 0, 200])
    event_log.append(conn, [b"e"])
    conn.commit()
    event_log.number_events(conn, 1_000)
    starts = [1_000, 1_003, 1_004, 1_204, 1_205]
    found = event_log.events_after(conn, 0, 9)
    assert [event.time_us for event in found] == starts
    assert [event.frame for event in found] == [b"a", b"b", b"c", b"d", b"e"]
    assert event_log.events_after(conn, 2, 9) == found[2:]
    for time_us in range(995, 1_210):
        passed = [at for at in [*starts[1:], 1_206] if at <= time_us]
        assert event_log.find_seq(conn, time_us) == len(passed)


def test_many_and_large_frames_are_unchanged(conn: Conn) -> None:
    frames = [random.Random(n).randbytes(n % 900) for n in range(1, 3_000)]
    frames.append(bytes(3_000_000))
    frames.append(random.Random(0).randbytes(4_000_000))
    event_log.append(conn, frames)
    event_log.append(conn, [])
    conn.commit()
    event_log.number_events(conn, 1)
    assert frames_of(conn) == frames
    assert frames_of(conn, 1_234) == frames[1_234:]
    blocks = conn.execute("SELECT count(*), max(count) FROM event_block").fetchone()
    assert blocks is not None
    assert 6 < blocks[0] < 30
    assert blocks[1] == 500


def test_read_is_bounded_in_bytes(conn: Conn) -> None:
    event_log.append(conn, [bytes([n]) * 1_000_000 for n in range(20)])
    conn.commit()
    event_log.number_events(conn, 1)
    assert 1 <= len(event_log.events_after(conn, 0, 200)) <= 2
    assert [frame[0] for frame in frames_of(conn)] == list(range(20))


def test_rollback_leaves_no_events(conn: Conn) -> None:
    event_log.append(conn, [b"gone"])
    conn.rollback()
    event_log.append(conn, [b"kept"])
    conn.commit()
    event_log.number_events(conn, 1)
    assert event_log.events_after(conn, 0, 9) == [(1, 1, b"kept")]


class Follower:
    """A subscriber: it continues after the last number it saw."""

    def __init__(self, read: Callable[[int], list[tuple[int, bytes]]]) -> None:
        self._read = read
        self.position = 0
        self.seen: list[bytes] = []

    def look(self) -> None:
        for seq, frame in self._read(self.position):
            self.position = seq
            self.seen.append(frame)


def logged(conn: Conn) -> Callable[[int], list[tuple[int, bytes]]]:
    def read(seq: int) -> list[tuple[int, bytes]]:
        event_log.number_events(conn, 1)
        with conn.transaction():
            found = event_log.events_after(conn, seq, 1_000_000)
        return [(event.seq, event.frame) for event in found]

    return read


def numbered_by_writers(conn: Conn) -> Callable[[int], list[tuple[int, bytes]]]:
    """Plant a fault: draw the number where the frame is written."""

    def read(seq: int) -> list[tuple[int, bytes]]:
        with conn.transaction():
            return conn.execute(
                "SELECT id, frames FROM event_block WHERE id > %s ORDER BY id", (seq,)
            ).fetchall()

    return read


def overtake(index_db: str, follower: Follower) -> None:
    """Start a writer, commit a second one, then commit the first."""
    with connect(index_db) as slow, connect(index_db) as fast:
        event_log.append(slow, [b"slow"])
        event_log.append(fast, [b"fast"])
        fast.commit()
        follower.look()
        slow.commit()
        follower.look()


def test_late_commit_is_not_missed(conn: Conn, index_db: str) -> None:
    follower = Follower(logged(conn))
    overtake(index_db, follower)
    assert follower.seen == [b"fast", b"slow"]


def test_numbers_drawn_by_writers_lose_events(conn: Conn, index_db: str) -> None:
    follower = Follower(numbered_by_writers(conn))
    overtake(index_db, follower)
    assert len(follower.seen) == 1


def test_writers_numberers_and_readers_all_at_once(index_db: str) -> None:
    writers, batches = 4, 40
    done = threading.Event()

    def write(writer: int) -> None:
        dice = random.Random(writer)
        with connect(index_db) as conn:
            for batch in range(batches):
                frames = [f"{writer} {batch} {n}".encode() for n in range(3)]
                event_log.append(conn, frames)
                if dice.random() < 0.3:
                    conn.execute("SELECT pg_sleep(0.004)")
                if dice.random() < 0.1:
                    conn.rollback()
                    event_log.append(conn, frames)
                conn.commit()

    def number() -> None:
        with connect(index_db) as conn:
            while not done.is_set():
                event_log.number_events(conn, 1)

    def read(follower: Follower) -> None:
        while not done.is_set():
            follower.look()

    with connect(index_db) as one, connect(index_db) as two:
        followers = [Follower(logged(one)), Follower(logged(two))]
        others = [threading.Thread(target=number) for _ in range(2)]
        others += [threading.Thread(target=read, args=(f,)) for f in followers]
        threads = [threading.Thread(target=write, args=(n,)) for n in range(writers)]
        for thread in threads + others:
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        for thread in others:
            thread.join()
        for follower in followers:
            follower.look()
            assert follower.position == writers * batches * 3
            assert len(set(follower.seen)) == len(follower.seen) == follower.position
            for writer in range(writers):
                mine = [f for f in follower.seen if f.startswith(b"%d " % writer)]
                expected = [
                    f"{writer} {batch} {n}".encode()
                    for batch in range(batches)
                    for n in range(3)
                ]
                assert mine == expected
        assert followers[0].seen == followers[1].seen


def fill(conn: Conn, blocks: int) -> None:
    for number in range(blocks):
        event_log.append(conn, [b"%06d" % number] * 2)
        conn.commit()
        event_log.number_events(conn, 1_000 * (number + 1))


def test_prune_keeps_numbering(conn: Conn) -> None:
    fill(conn, 10)
    steps = event_log.prune(conn, before_us=4_000, max_bytes=FOREVER)
    assert sum(steps) == 6
    assert event_log.load_bounds(conn)[:2] == (7, 20)
    assert frames_of(conn)[0] == b"000003"
    assert sum(event_log.prune(conn, before_us=FOREVER, max_bytes=FOREVER)) == 14
    # The next number, and no more: a cursor in between is outdated, not of the future.
    assert event_log.load_bounds(conn) == (21, 20, 0)
    fill(conn, 1)
    assert event_log.events_after(conn, 0, 1)[0].seq == 21


def test_the_log_is_bounded_in_bytes_and_pruned_in_steps(conn: Conn) -> None:
    fill(conn, 250)
    size = event_log.load_bounds(conn).size
    steps = list(event_log.prune(conn, before_us=0, max_bytes=size // 5))
    assert len(steps) == 2
    assert sum(steps) == 400
    bounds = event_log.load_bounds(conn)
    assert bounds.oldest == 401
    assert bounds.size <= size // 5


def test_unnumbered_events_are_never_pruned(conn: Conn) -> None:
    event_log.append(conn, [b"new"])
    conn.commit()
    assert sum(event_log.prune(conn, before_us=FOREVER, max_bytes=0)) == 0
    event_log.number_events(conn, 1)
    assert frames_of(conn) == [b"new"]


def test_accounts_that_are_hidden(conn: Conn) -> None:
    conn.execute(
        "INSERT INTO actor (did, upstream_status, takedown) VALUES"
        " ('did:a', 'active', NULL), ('did:b', 'deactivated', NULL),"
        " ('did:c', 'active', 'spam')"
    )
    hidden = event_log.find_hidden(conn, ["did:a", "did:b", "did:c", "did:d"])
    assert hidden == {"did:b": False, "did:c": True}


@pytest.mark.parametrize("seed", range(6))
def test_number_has_one_content_after_crashes(
    index_db: str, conn: Conn, seed: int
) -> None:
    """Writers of two shards, numberers and pruners fail at any point and start again.

    A reader checks everything after each step.
    """
    rng = random.Random(seed)
    crews = {name: connect(index_db) for name in ("one", "two", "keeper")}
    written = 0
    waiting: dict[str, list[bytes]] = {"one": [], "two": []}
    committed: list[bytes] = []
    seen: dict[int, tuple[int, bytes]] = {}
    now = 1_000

    def write(name: str) -> None:
        nonlocal written
        frames = [b"%s %d" % (name.encode(), written + n) for n in range(3)]
        written += 3
        counts = [rng.choice((0, 1, 7)) for _ in frames]
        event_log.append(crews[name], frames, counts)
        waiting[name] += frames

    def end(name: str) -> None:
        crews[name].commit()
        committed.extend(waiting[name])
        waiting[name].clear()

    def die(name: str) -> None:
        crews[name].close()
        crews[name] = connect(index_db)
        waiting.get(name, []).clear()

    def keep(name: str) -> None:
        with crews[name].transaction() as step:
            event_log.number_events(crews[name], now)
            if rng.random() < 0.3:
                raise psycopg.Rollback(step)

    def forget(name: str) -> None:
        before = rng.randrange(now // 2, now)
        sum(event_log.prune(crews[name], before_us=before, max_bytes=FOREVER))

    def look() -> None:
        found = event_log.events_after(conn, 0, 10_000)
        bounds = event_log.load_bounds(conn)
        conn.commit()
        numbers = [event.seq for event in found]
        assert numbers == list(range(bounds.oldest, bounds.newest + 1))
        for event in found:
            content = (event.time_us, event.frame)
            assert seen.setdefault(event.seq, content) == content

    for _ in range(120):
        step = rng.choice((write, write, end, end, die, keep, keep, forget))
        name = "keeper" if step in (keep, forget) else rng.choice(("one", "two"))
        step(name)
        now += rng.choice((-5, 1, 40))
        look()
    for name in ("one", "two"):
        end(name)
    while event_log.number_events(conn, now):
        look()
    # All that was committed was seen, once, each writer's in its order, times rising.
    told = [seen[seq] for seq in sorted(seen)]
    assert sorted(frame for _, frame in told) == sorted(committed)
    for name in (b"one", b"two"):
        mine = [frame for _, frame in told if frame.startswith(name)]
        assert mine == [frame for frame in committed if frame.startswith(name)]
    times = [time_us for time_us, _ in told]
    assert times == sorted(set(times))
    assert sorted(seen) == list(range(1, len(committed) + 1))
    for crew in crews.values():
        crew.close()
