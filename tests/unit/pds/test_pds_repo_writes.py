"""Writes on a real database: stored blocks and events match the repo."""

from __future__ import annotations

import os
import random
import socket
from datetime import UTC, datetime

import pytest
from repo_world import KEY, NOTE, Repo, check_stored, note, remove

from pds.exceptions import (
    AccountDeactivatedError,
    InvalidRequestError,
    InvalidSwapError,
)
from pds.repo.block_rows import NodeCache
from pds.repo.repo_writes import Intent, RepoWriter, Swap, Write
from pds.server import lifecycle
from protocol.data.cid import cid_for
from protocol.repo.car import read_car
from protocol.repo.commit import parse_commit
from protocol.syntax import TidClock, tid_time_us


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
                # Few texts, so that several keys have the same record.
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
    repo.apply(note("k7", "changed", Intent.UPDATE), remove("k8"), note("new", "new"))
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
def test_contradicting_batch_changes_nothing(repo: Repo, writes: list[Write]) -> None:
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
    """Commit through a socket whose buffer is smaller than the pipeline."""
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
        # Another process of the same server has its own clock.
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
