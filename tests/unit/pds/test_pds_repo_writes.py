"""The write path on a real database: after every batch the stored blocks are exactly
those of the repo, and the stream says what happened."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from pds.exceptions import (
    AccountDeactivatedError,
    InvalidRequestError,
    InvalidSwapError,
)
from pds.repo import block_rows, repo_writes
from pds.repo.block_rows import NodeCache
from pds.repo.repo_heads import RepoHead, get_head
from pds.repo.repo_writes import (
    Intent,
    RepoWriter,
    Swap,
    Write,
)
from pds.server import lifecycle
from pds.server.accounts import NewAccount
from protocol.data.cbor import encode
from protocol.data.cid import cid_for
from protocol.events.frames import decode_frame
from protocol.identity.keys import PrivateKey
from protocol.mst import build_nodes
from protocol.repo.car import read_car
from protocol.repo.commit import parse_commit, verify_commit_signature
from protocol.syntax import TidClock, tid_time_us
from storage.postgres.pool import Conn, Pool, open_pool

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
NOTE = "dev.example.note"
KEY = PrivateKey.generate()
WRITER = "doomed writer"


class Clock:
    """Microseconds, at the test's will."""

    def __init__(self) -> None:
        self.us = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def pds_pool(make_database: Callable[[str], str]) -> Iterator[Pool]:
    with open_pool(make_database("pds"), min=1, max=8) as pool:
        yield pool


class Repo:
    """One account and its writer."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.time = Clock()
        self.clock = TidClock(1, self.time)
        self.writer = RepoWriter(NodeCache(), self.clock, lambda conn, account: KEY)
        new = NewAccount(
            did=DID,
            handle="alice.a.test",
            email=None,
            password="-",
            signing_key=b"-",
            rotation_key=b"-",
            signing_did_key=KEY.public.did_key,
        )
        with pool.connection() as conn:
            self.id = lifecycle.create_account(
                conn, new, KEY, self.clock.next(), datetime.now(UTC)
            )

    def apply(self, *writes: Write, swap: bytes | None = None) -> RepoHead:
        with self.pool.connection() as conn:
            return self.writer.apply(
                conn, self.id, writes, swap_commit=swap, now=datetime.now(UTC)
            ).head

    def head(self) -> RepoHead:
        with self.pool.connection() as conn:
            return get_head(conn, self.id)

    def query(self, sql: str) -> list[Any]:
        with self.pool.connection() as conn:
            return list(conn.execute(sql))

    def frames(self) -> list[Any]:
        rows = self.query("SELECT seq, frame FROM event ORDER BY seq")
        return [(seq, decode_frame(frame)) for seq, frame in rows]


@pytest.fixture
def repo(pds_pool: Pool) -> Repo:
    return Repo(pds_pool)


def note(rkey: str, text: str, intent: Intent = Intent.CREATE, **more: Any) -> Write:
    value = encode({"$type": NOTE, "text": text})
    return Write(intent, f"{NOTE}/{rkey}", value, cid_for(value), **more)


def remove(rkey: str, intent: Intent = Intent.DELETE, **more: Any) -> Write:
    return Write(intent, f"{NOTE}/{rkey}", **more)


def expected_blocks(records: dict[str, bytes], commit: bytes) -> set[bytes]:
    items = sorted((path.encode(), cid) for path, cid in records.items())
    nodes = {node.cid for node in build_nodes(items)}
    return nodes | set(records.values()) | {commit}


def check_stored(repo: Repo, records: dict[str, bytes]) -> None:
    """What is stored is the repo of these records: no block more, none less."""
    head = repo.head()
    assert dict(repo.query("SELECT path, cid FROM record")) == records
    stored = dict(repo.query("SELECT cid, value FROM block"))
    assert set(stored) == expected_blocks(records, head.commit)
    assert all(cid_for(value) == cid for cid, value in stored.items())
    signed = verify_commit_signature(stored[head.commit], KEY.public)
    assert (signed.did, signed.rev, signed.data) == (DID, head.rev, head.data)


def test_new_account_emits_four_events(repo: Repo) -> None:
    check_stored(repo, {})
    frames = repo.frames()
    assert [(seq, frame.t) for seq, frame in frames] == [
        (1, "#identity"),
        (2, "#account"),
        (3, "#commit"),
        (4, "#sync"),
    ]
    assert [frame.body["seq"] for _, frame in frames] == [1, 2, 3, 4]
    assert frames[0][1].body["handle"] == "alice.a.test"
    assert frames[1][1].body["active"] is True
    commit, sync = frames[2][1].body, frames[3][1].body
    head = repo.head()
    assert commit["commit"] == head.commit
    assert commit["since"] is None
    assert commit["ops"] == []
    assert "prevData" not in commit
    assert set(read_car(commit["blocks"]).blocks) == {head.commit, head.data}
    assert set(read_car(sync["blocks"]).blocks) == {head.commit}


def test_random_history_leaves_no_stale_block(repo: Repo) -> None:
    rng = random.Random(7)
    records: dict[str, bytes] = {}
    heads = [repo.head()]
    for step in range(60):
        batch: dict[str, Write] = {}
        for _ in range(rng.choice([1, 1, 2, 9, 40])):
            rkey = f"k{rng.randrange(120)}"
            if f"{NOTE}/{rkey}" in records and rng.random() < 0.5:
                batch[rkey] = remove(rkey)
            else:
                # Few texts: the same record comes to stand under several keys.
                batch[rkey] = note(rkey, f"text {rng.randrange(30)}", Intent.PUT)
        repo.apply(*batch.values())
        for write in batch.values():
            if write.cid is None:
                del records[write.path]
            else:
                records[write.path] = write.cid
        head = repo.head()
        check_stored(repo, records)
        if head != heads[-1]:
            assert head.rev > heads[-1].rev
            heads.append(head)
        if step % 20 == 19:
            # A cold cache reads from the table.
            repo.writer = RepoWriter(NodeCache(), repo.clock, lambda conn, account: KEY)
    repo.apply(*(remove(path.partition("/")[2]) for path in records))
    check_stored(repo, {})
    commits = [f.body for _, f in repo.frames() if f.t == "#commit"]
    assert len(commits) == len(heads) + 1
    for before, body in zip(heads, commits[1:], strict=True):
        assert body["since"] == before.rev
        assert body["prevData"] == before.data


def test_commit_event_verifies_by_itself(repo: Repo) -> None:
    repo.apply(*(note(f"k{n}", f"text {n}") for n in range(100)))
    before = repo.head()
    repo.apply(
        note("k7", "changed", Intent.UPDATE),
        remove("k8"),
        note("new", "new"),
    )
    body = repo.frames()[-1][1].body
    assert [(op["action"], op["path"]) for op in body["ops"]] == [
        ("update", f"{NOTE}/k7"),
        ("delete", f"{NOTE}/k8"),
        ("create", f"{NOTE}/new"),
    ]
    assert body["ops"][0]["prev"] == note("", "text 7").cid
    assert body["ops"][1]["prev"] == note("", "text 8").cid
    assert body["ops"][1]["cid"] is None
    assert "prev" not in body["ops"][2]
    assert (body["rebase"], body["tooBig"], body["blobs"]) == (False, False, [])
    car = read_car(body["blocks"])
    assert car.root == body["commit"]
    assert {note("", "changed").cid, note("", "new").cid} <= set(car.blocks)
    commit = parse_commit(car.blocks[car.root])
    assert (commit.rev, body["prevData"]) == (body["rev"], before.data)
    # A proof, not the repo.
    assert len(car.blocks) < 60


def test_unchanged_write_makes_no_commit(repo: Repo) -> None:
    head = repo.apply(note("a", "text"))
    assert repo.apply(note("a", "text", Intent.PUT)) == head
    assert repo.apply(remove("b", Intent.ENSURE_ABSENT)) == head
    assert len(repo.frames()) == 5


@pytest.mark.parametrize(
    "writes",
    [
        [note("a", "again")],
        [note("b", "text", Intent.UPDATE)],
        [remove("b")],
        [note("c", "one"), remove("c", Intent.ENSURE_ABSENT)],
        [note("c", "fine"), note("a", "again")],
        [note(f"n{n}", "text") for n in range(201)],
    ],
)
def test_contradicting_batch_changes_nothing(
    repo: Repo, writes: list[Write]
) -> None:
    head = repo.apply(note("a", "text"))
    with pytest.raises(InvalidRequestError):
        repo.apply(*writes)
    assert repo.head() == head
    check_stored(repo, {f"{NOTE}/a": note("a", "text").cid or b""})
    assert len(repo.frames()) == 5


def test_largest_batch_is_accepted(repo: Repo) -> None:
    repo.apply(*(note(f"n{n}", f"text {n}") for n in range(200)))
    assert len(repo.frames()[-1][1].body["ops"]) == 200


def test_commit_over_the_message_size_is_refused(repo: Repo) -> None:
    big = [note(f"n{n}", str(n) * 500_000) for n in range(4)]
    with pytest.raises(InvalidRequestError, match="larger than"):
        repo.apply(*big)
    repo.apply(*big[:3])
    assert len(repo.frames()[-1][1].body["blocks"]) <= 2_000_000


@pytest.mark.timeout(60)
def test_large_commit_passes_a_small_socket_buffer(repo: Repo) -> None:
    """A socket takes what it has room for, and a server under load empties it late:
    nobody may wait for an answer to what was not sent."""
    with repo.pool.connection() as conn:
        with socket.socket(fileno=os.dup(conn.fileno())) as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        for turn in range(3):
            writes = [note(f"t{turn}n{n}", str(n) * 500_000) for n in range(3)]
            repo.writer.apply(
                conn, repo.id, writes, swap_commit=None, now=datetime.now(UTC)
            )
    assert len(repo.frames()[-1][1].body["ops"]) == 3


def test_swap_needs_the_expected_state(repo: Repo) -> None:
    first = repo.apply(note("a", "one"))
    one, two = note("a", "one").cid, note("a", "two").cid
    with pytest.raises(InvalidSwapError):
        repo.apply(note("b", "x"), swap=cid_for(b"other"))
    with pytest.raises(InvalidSwapError):
        repo.apply(note("a", "two", Intent.PUT, swap=Swap(two)))
    with pytest.raises(InvalidSwapError):
        repo.apply(note("a", "two", Intent.PUT, swap=Swap(None)))
    with pytest.raises(InvalidSwapError):
        repo.apply(remove("a", swap=Swap(two)))
    with pytest.raises(InvalidSwapError):
        repo.apply(remove("b", Intent.ENSURE_ABSENT, swap=Swap(two)))
    repo.apply(note("a", "two", Intent.PUT, swap=Swap(one)), swap=first.commit)
    repo.apply(note("b", "x", Intent.PUT, swap=Swap(None)))
    repo.apply(remove("a", swap=Swap(two)))


def test_revs_rise_when_the_clock_steps_back(repo: Repo) -> None:
    revs = [repo.head().rev]
    for step, us in enumerate([3_600_000_000, -7_200_000_000, 0, 0, 1]):
        repo.time.us += us
        # Another process of the same server has a clock of its own.
        repo.writer = RepoWriter(
            NodeCache(), TidClock(step, repo.time), lambda conn, account: KEY
        )
        revs.append(repo.apply(note(f"k{step}", "text")).rev)
    assert revs == sorted(set(revs))
    assert tid_time_us(revs[2]) == tid_time_us(revs[1]) + 1


def test_inactive_account_cannot_write(repo: Repo) -> None:
    with repo.pool.connection() as conn:
        lifecycle.deactivate(conn, repo.id, datetime.now(UTC))
    with pytest.raises(AccountDeactivatedError):
        repo.apply(note("a", "text"))
    with repo.pool.connection() as conn:
        lifecycle.activate(conn, repo.id, datetime.now(UTC))
    repo.apply(note("a", "text"))
    assert [frame.t for _, frame in repo.frames()[4:]] == [
        "#account",
        "#account",
        "#identity",
        "#sync",
        "#commit",
    ]
    assert repo.frames()[4][1].body["status"] == "deactivated"


def test_concurrent_writers_make_a_linear_history(repo: Repo) -> None:
    swaps_won = []

    def work(writer: int) -> None:
        for number in range(20):
            repo.apply(note(f"w{writer}-{number}", f"{writer} {number}"))
            head = repo.head()
            try:
                repo.apply(
                    note("shared", f"{writer} {number}", Intent.PUT), swap=head.commit
                )
                swaps_won.append(head.commit)
            except InvalidSwapError:
                pass

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(work, range(20)))
    assert len(swaps_won) == len(set(swaps_won))
    frames = repo.frames()
    assert [seq for seq, _ in frames] == list(range(1, len(frames) + 1))
    bodies = [frame.body for _, frame in frames if frame.t == "#commit"]
    assert len(bodies) == 1 + 400 + len(swaps_won)
    for before, after in pairwise(bodies):
        assert after["since"] == before["rev"] < after["rev"]
        data = parse_commit(read_car(before["blocks"]).blocks[before["commit"]]).data
        assert after["prevData"] == data
    records = dict(repo.query("SELECT path, cid FROM record"))
    assert len(records) == 400 + (1 if swaps_won else 0)
    check_stored(repo, records)


def test_reader_never_skips_an_uncommitted_event(repo: Repo) -> None:
    """Numbers become visible in their own order, whatever the transactions do."""
    new = NewAccount("did:plc:" + "b" * 24, "bob.a.test", None, "-", b"", b"", "")
    with repo.pool.connection() as conn:
        other = lifecycle.create_account(
            conn, new, KEY, repo.clock.next(), datetime.now(UTC)
        )

    def write(account: int) -> None:
        for number in range(40):
            with repo.pool.connection() as conn:
                repo.writer.apply(
                    conn,
                    account,
                    [note(f"n{number}", f"{number}")],
                    swap_commit=None,
                    now=datetime.now(UTC),
                )

    seen = [0]
    with ThreadPoolExecutor(2) as threads, repo.pool.connection() as conn:
        conn.autocommit = True
        writers = [threads.submit(write, account) for account in (repo.id, other)]
        while seen[-1] < 8 + 80:
            rows = conn.execute(
                "SELECT seq FROM event WHERE seq > %s ORDER BY seq", [seen[-1]]
            ).fetchall()
            seen.extend(row[0] for row in rows)
        conn.autocommit = False
        for writer in writers:
            writer.result()
    assert seen == list(range(89))


def test_killed_writer_leaves_one_event_for_each_commit(
    repo: Repo, pds_pool: Pool
) -> None:
    """Twenty writers are killed with SIGKILL while a reader follows the stream."""
    url = pds_pool.conninfo
    assert isinstance(url, str)
    rng = random.Random(11)
    seen: dict[int, bytes] = {}

    def look(conn: Conn) -> None:
        rows = conn.execute(
            "SELECT seq, frame FROM event WHERE seq > %s ORDER BY seq",
            [max(seen, default=0)],
        )
        for seq, frame in rows:
            assert seq not in seen
            seen[seq] = sha256(frame).digest()

    with psycopg.connect(url, autocommit=True) as reader:
        look(reader)
        for life in range(20):
            child = os.fork()
            if child == 0:
                write_until_killed(url, repo.id, life)
            # However slow the machine, each of them writes before it dies.
            count = len(seen)
            while len(seen) == count:
                look(reader)
            end = time.monotonic() + rng.uniform(0, 0.05)
            while time.monotonic() < end:
                look(reader)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            look(reader)
        # The server may still be at what the last one sent before it died.
        while reader.execute(
            "SELECT FROM pg_stat_activity WHERE application_name = %s", [WRITER]
        ).fetchone():
            time.sleep(0.01)
        look(reader)
        rows = reader.execute("SELECT seq, frame FROM event").fetchall()
        stored: dict[int, bytes] = dict(rows)
    assert {seq: sha256(frame).digest() for seq, frame in stored.items()} == seen
    bodies = [decode_frame(stored[seq]).body for seq in sorted(stored)][4:]
    assert len(bodies) >= 20
    for before, after in pairwise(bodies):
        assert after["since"] == before["rev"]
    assert bodies[-1]["commit"] == repo.head().commit
    made = [op["path"] for body in bodies for op in body["ops"]]
    records = dict(repo.query("SELECT path, cid FROM record"))
    assert sorted(made) == sorted(records)
    check_stored(repo, records)


def write_until_killed(url: str, account: int, life: int) -> None:
    """In a child of its own: never returns, and never runs the parent's cleanup."""
    try:
        clock = TidClock(life, lambda: time.time_ns() // 1000)
        writer = RepoWriter(NodeCache(), clock, lambda conn, account: KEY)
        with psycopg.connect(url, application_name=WRITER) as conn:
            for number in range(100_000):
                writer.apply(
                    conn,
                    account,
                    [note(f"{life}-{number}-{part}", f"{number}") for part in "abc"],
                    swap_commit=None,
                    now=datetime.now(UTC),
                )
    finally:
        os._exit(1)


@pytest.mark.parametrize(
    "step", ["insert_blocks", "delete_blocks", "move_head", "append", "use_blobs"]
)
def test_failure_at_any_step_rolls_back(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    head = repo.apply(note("a", "text"))

    def fail(*args: Any, **more: Any) -> None:
        real(*args, **more)
        raise RuntimeError(step)

    real = getattr(repo_writes, step)
    monkeypatch.setattr(repo_writes, step, fail)
    with pytest.raises(RuntimeError, match=step):
        repo.apply(note("b", "text"))
    monkeypatch.undo()
    assert repo.head() == head
    assert len(repo.frames()) == 5
    check_stored(repo, {f"{NOTE}/a": note("a", "text").cid or b""})
    # The number that was rolled back was never seen, so it is given now.
    repo.apply(note("b", "text"))
    assert [seq for seq, _ in repo.frames()] == [1, 2, 3, 4, 5, 6]


def test_write_touches_few_blocks_of_a_large_repo(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    for start in range(0, 4_000, 200):
        repo.apply(*(note(f"k{n}", f"{n}") for n in range(start, start + 200)))
    before = {row[0] for row in repo.query("SELECT cid FROM block")}
    read: list[bytes] = []

    def find_block(conn: Any, account: int, cid: bytes) -> bytes | None:
        read.append(cid)
        return real(conn, account, cid)

    real = block_rows.find_block
    monkeypatch.setattr(block_rows, "find_block", find_block)
    repo.writer = RepoWriter(NodeCache(), repo.clock, lambda conn, account: KEY)
    repo.apply(note("one more", "text"))
    after = {row[0] for row in repo.query("SELECT cid FROM block")}
    assert len(before) > 5_000
    assert 0 < len(read) < 20
    assert len(after - before) < 14
    assert len(before - after) < 14
    # What was read once is not read again.
    read.clear()
    repo.apply(note("one more", "changed", Intent.UPDATE))
    assert read == []
