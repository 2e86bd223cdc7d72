"""Concurrent, killed and failing writers on a real database."""

from __future__ import annotations

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from repo_world import KEY, NOTE, Repo, check_stored, note

from pds.exceptions import InvalidSwapError
from pds.repo import block_rows, repo_writes
from pds.repo.block_rows import NodeCache
from pds.repo.repo_writes import Intent, RepoWriter
from pds.server import lifecycle
from pds.server.accounts import NewAccount
from protocol.events.frames import decode_frame
from protocol.mst import TreeOp, invert
from protocol.repo.car import read_car
from protocol.repo.commit import parse_commit, verify_commit_signature
from protocol.syntax import TidClock
from storage.postgres.pool import Conn, Pool

WRITER = "doomed writer"


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


@pytest.mark.timeout(900)
def test_fifty_writers_on_one_repo_make_invertible_commits(
    repo: Repo, long: bool
) -> None:
    each = 200 if long else 6

    def work(writer: int) -> None:
        for number in range(each):
            intent = Intent.CREATE if number % 3 else Intent.PUT
            rkey = f"w{writer}-{number}" if number % 3 else f"shared-{number % 5}"
            repo.apply(note(rkey, f"{writer} {number}", intent))

    with ThreadPoolExecutor(50) as threads:
        list(threads.map(work, range(50)))
    bodies = [frame.body for _, frame in repo.frames() if frame.t == "#commit"]
    assert len(bodies) == 1 + 50 * each
    records: dict[str, bytes] = {}
    for before, after in pairwise(bodies):
        assert after["since"] == before["rev"] < after["rev"]
        blocks = read_car(after["blocks"]).blocks
        commit = verify_commit_signature(blocks[after["commit"]], KEY.public)
        ops = [
            TreeOp(op["path"].encode(), op["cid"], op.get("prev"))
            for op in after["ops"]
        ]
        assert invert(blocks, commit.data, ops) == after["prevData"]
        for op in after["ops"]:
            assert records.get(op["path"]) == op.get("prev")
            records[op["path"]] = op["cid"]
    check_stored(repo, records)


def test_reader_never_skips_an_uncommitted_event(repo: Repo) -> None:
    """Check that sequence numbers become visible in order."""
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
    """Kill twenty writers with SIGKILL while a reader follows the stream."""
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
            # Each of them writes before it is killed, also on a slow machine.
            count = len(seen)
            while len(seen) == count:
                look(reader)
            end = time.monotonic() + rng.uniform(0, 0.05)
            while time.monotonic() < end:
                look(reader)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            look(reader)
        # The server may still execute the last statements.
        while reader.execute(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = %s", [WRITER]
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
    """Write in a child process; never return, and skip the parent's cleanup."""
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
    # A rolled-back number was never visible, so it is used now.
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
    # Cached blocks are not read again.
    read.clear()
    repo.apply(note("one more", "changed", Intent.UPDATE))
    assert read == []
