"""The operations of a commit, compared with its trees."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from crawl_author import Author as StreamAuthor
from crawl_author import Op
from handmade_commits import LIE, NOW_US, Author, Body, reason_of, record, verify

from crawler.live.verify import verify_commit
from protocol.errors import InvalidSignatureError
from protocol.events.drops import DropReason
from protocol.events.frames import decode_frame
from protocol.identity.keys import PrivateKey
from protocol.mst import EMPTY_ROOT
from protocol.syntax import tid_from_int


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (lambda ops: ops.pop(0), DropReason.PREV_DATA_MISMATCH),
        (lambda ops: ops.pop(1), DropReason.PREV_DATA_MISMATCH),
        (lambda ops: ops.pop(2), DropReason.PREV_DATA_MISMATCH),
        (lambda ops: ops.append(dict(ops[0])), DropReason.OPS_MISMATCH),
        (lambda ops: ops.append(dict(ops[2])), DropReason.OPS_MISMATCH),
        (
            lambda ops: ops.append({**ops[2], "path": "test.app.note/k099"}),
            DropReason.PREV_DATA_MISMATCH,
        ),
        (
            lambda ops: ops.append({**ops[0], "path": "test.app.note/k099"}),
            DropReason.OPS_MISMATCH,
        ),
        (lambda ops: ops[0].update(path="test.app.note/k099"), DropReason.OPS_MISMATCH),
        (lambda ops: ops[0].update(cid=LIE), DropReason.OPS_MISMATCH),
        (lambda ops: ops[0].update(cid=None), DropReason.OPS_MISMATCH),
        (lambda ops: ops[0].update(prev=LIE), DropReason.OPS_MISMATCH),
        (lambda ops: ops[0].update(action="update"), DropReason.OPS_MISMATCH),
        (
            lambda ops: ops[0].update(action="update", prev=LIE),
            DropReason.PREV_DATA_MISMATCH,
        ),
        (lambda ops: ops[1].update(prev=LIE), DropReason.PREV_DATA_MISMATCH),
        (lambda ops: ops[1].update(prev=None), DropReason.OPS_MISMATCH),
        (lambda ops: ops[1].pop("prev"), DropReason.OPS_MISMATCH),
        (lambda ops: ops[1].update(cid=LIE), DropReason.OPS_MISMATCH),
        (
            lambda ops: ops[1].update(action="create", prev=None),
            DropReason.PREV_DATA_MISMATCH,
        ),
        (lambda ops: ops[2].update(prev=LIE), DropReason.PREV_DATA_MISMATCH),
        (lambda ops: ops[2].update(prev=None), DropReason.OPS_MISMATCH),
        (lambda ops: ops[2].update(cid=LIE), DropReason.OPS_MISMATCH),
        (lambda ops: ops[2].update(path="test.app.note/k008"), DropReason.OPS_MISMATCH),
        (lambda ops: ops[0].update(cid="text"), DropReason.OPS_MISMATCH),
        (lambda ops: ops[0].update(action=None), DropReason.BAD_FIELD),
        (lambda ops: ops.clear(), DropReason.PREV_DATA_MISMATCH),
    ],
)
def test_operations_that_lie_are_refused(
    body: Body, lie: Callable[[list[Body]], Any], reason: DropReason
) -> None:
    verify(body)
    lie(body["ops"])
    assert reason_of(body) == reason


def test_order_of_operations_does_not_matter(body: Body) -> None:
    body["ops"].reverse()
    assert len(verify(body).ops) == 3


def test_empty_commit() -> None:
    made = Author().commit()
    event = verify(made)
    assert event.ops == []
    assert event.data == event.prev_data
    assert reason_of({**made, "prevData": LIE}) == DropReason.PREV_DATA_MISMATCH


def test_first_commit_follows_from_the_empty_tree() -> None:
    for changes in ([], [("test.app.note/a", record())]):
        made = Author(0).commit(*changes)
        made["since"] = None
        del made["prevData"]
        event = verify(made)
        assert (event.since, event.prev_data) == (None, EMPTY_ROOT)
        assert len(event.ops) == len(changes)


def test_commit_without_prev_data_proves_no_operations() -> None:
    made = Author().commit(("test.app.note/a", record()))
    for since in (None, made["since"]):
        old = {**made, "since": since, "prevData": None}
        event = verify(old)
        assert (event.prev_data, list(event.ops), list(event.drops)) == (None, [], [])
    del made["prevData"]
    made["ops"] = [{"action": "delete", "path": "test.app.note/k001", "cid": None}]
    assert verify(made).prev_data is None
    with pytest.raises(InvalidSignatureError):
        verify_commit(made, PrivateKey.generate().public, NOW_US)


def test_most_operations() -> None:
    changes = [
        (f"test.app.note/m{number:03}", record(str(number))) for number in range(201)
    ]
    assert len(verify(Author().commit(*changes[:200])).ops) == 200
    assert reason_of(Author().commit(*changes)) == DropReason.TOO_MANY_OPS


def test_thousand_commits_with_minimal_proofs_need_no_fetch() -> None:
    author = StreamAuthor(1)
    author.minimal = True
    draw = random.Random(7)
    unchecked = 0
    for n in range(1_000):
        keys = list(author.records)
        if n % 10 == 9:
            ops: list[Op] = [("delete", key, None) for key in draw.sample(keys, 2)]
        else:
            rkey = tid_from_int(draw.getrandbits(53) << 10)
            ops = [("create", f"test.app.note/{rkey}", {"n": n})]
        author.write(ops)
        body = decode_frame(author.frame(n + 1)).body
        # Any error here would have the repo fetched, or the commit lost.
        event = verify_commit(body, author.key.public, author.now_us)
        assert len(event.ops) == len(ops)
        unchecked += event.unchecked
    assert 0 < unchecked < 1_000
