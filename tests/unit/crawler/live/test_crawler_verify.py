"""The verification of commits: fields, keys, groups and a whole population."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from handmade_commits import (
    DID,
    KEY,
    NOW_US,
    REV,
    Author,
    Body,
    car_of,
    reason_of,
    record,
    resigned,
    verify,
)

from bench.fake_accounts import FakeAccounts
from crawler.live.rejections import RejectedError, drop_reason
from crawler.live.verify import verify_commit, verify_commits, verify_sync
from protocol.data import cbor
from protocol.data.cid import BLOB_PREFIX, cid_for
from protocol.errors import InvalidSignatureError, LimitExceededError, ProtocolError
from protocol.events.drops import DropReason
from protocol.events.event import CommitEvent
from protocol.events.frames import decode_frame
from protocol.identity.keys import K256_ORDER, P256_ORDER, PrivateKey
from protocol.limits import MAX_REV_AHEAD_US
from protocol.mst import EMPTY_ROOT
from protocol.repo.car import read_car
from protocol.repo.commit import parse_commit
from protocol.syntax import tid_from_int


def test_good_commit_gives_its_event(body: Body) -> None:
    event = verify(body)
    assert (event.did, event.rev, event.since) == (DID, REV, body["since"])
    assert (event.seq, event.host) == (7, 3)
    assert event.prev_data == body["prevData"]
    car = read_car(body["blocks"])
    assert event.commit == car.blocks[car.root]
    assert event.data == parse_commit(event.commit).data
    assert [(op.action, op.collection, op.rkey) for op in event.ops] == [
        ("create", "test.app.note", "new"),
        ("update", "test.app.note", "k003"),
        ("delete", "test.app.note", "k007"),
    ]
    assert [op.value for op in event.ops] == [record("new"), record("other"), None]
    assert [op.cid for op in event.ops][:2] == [
        cid_for(record("new")),
        cid_for(record("other")),
    ]
    assert event.ops[0].fields == cbor.decode_fast(record("new"))
    assert event.ops[2].fields is None
    assert event.drops == []


def test_a_group_is_judged_as_each_alone() -> None:
    """Each message of a group gets its own verdict, by its own key, in its place."""
    keys = [PrivateKey(curve, bytes([n]) * 32) for n in (5, 6)
            for curve in ("k256", "p256")]  # fmt: skip
    good = [
        (Author(key=key).commit((f"test.app.note/new{n}", record())), key.public, n)
        for n, key in enumerate(keys)
    ]
    lies = Author().commit(("test.app.note/new", record()))
    lies["ops"][0]["path"] = "test.app.note/other"
    bad = [
        (good[0][0], keys[1].public, 7),
        (good[1][0], keys[0].public, 8),
        ({**good[2][0], "rev": "never"}, keys[2].public, 9),
        ({**good[3][0], "ops": []}, keys[3].public, 10),
        (lies, KEY.public, 11),
        ({}, KEY.public, 12),
    ]
    alone: dict[int, Any] = {}
    for message in good + bad:
        try:
            alone[message[2]] = verify_commit(*message[:2], NOW_US, host=message[2])
        except ProtocolError as error:
            alone[message[2]] = (type(error), str(error))
    assert sum(isinstance(verdict, CommitEvent) for verdict in alone.values()) == 4
    chance = random.Random(7)
    for size in (1, 2, 5, 10, 10, 10, 40):
        group = [chance.choice(good + bad) for _ in range(size)]
        for message, found in zip(group, verify_commits(group, NOW_US), strict=True):
            if isinstance(found, Exception):
                assert (type(found), str(found)) == alone[message[2]]
            else:
                assert found == alone[message[2]]
                assert found.host == message[2]


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_both_curves(curve: Any) -> None:
    key = PrivateKey(curve, b"\x05" * 32)
    made = Author(key=key).commit(("test.app.note/new", record()))
    assert len(verify_commit(made, key.public, NOW_US).ops) == 1


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("repo", None, DropReason.BAD_FIELD),
        ("repo", "alice.test", DropReason.BAD_FIELD),
        ("repo", "did:plc:" + "e" * 24, DropReason.COMMIT_MISMATCH),
        ("rev", None, DropReason.BAD_FIELD),
        ("rev", "not-a-tid", DropReason.BAD_FIELD),
        ("rev", tid_from_int((NOW_US + 1) << 10), DropReason.COMMIT_MISMATCH),
        ("since", 5, DropReason.BAD_FIELD),
        ("since", "x", DropReason.BAD_FIELD),
        ("prevData", "x", DropReason.BAD_FIELD),
        ("prevData", b"", DropReason.BAD_FIELD),
        ("prevData", BLOB_PREFIX + bytes(32), DropReason.BAD_FIELD),
        ("prevData", EMPTY_ROOT, DropReason.PREV_DATA_MISMATCH),
        ("seq", None, DropReason.BAD_SEQ),
        ("seq", 0, DropReason.BAD_SEQ),
        ("seq", -1, DropReason.BAD_SEQ),
        ("seq", 2**53, DropReason.BAD_SEQ),
        ("seq", True, DropReason.BAD_SEQ),
        ("commit", EMPTY_ROOT, DropReason.COMMIT_MISMATCH),
        ("commit", None, DropReason.COMMIT_MISMATCH),
        ("blocks", None, DropReason.BAD_FIELD),
        ("blocks", "text", DropReason.BAD_FIELD),
        ("blocks", b"", DropReason.BAD_CAR),
        ("blocks", bytes(2_000_001), DropReason.BLOCKS_TOO_LARGE),
        ("ops", None, DropReason.BAD_FIELD),
        ("ops", {}, DropReason.BAD_FIELD),
        ("ops", [None], DropReason.BAD_FIELD),
        ("ops", [{}] * 201, DropReason.TOO_MANY_OPS),
        ("ops", [{"action": "create", "path": 5, "cid": b""}], DropReason.BAD_FIELD),
        ("ops", [{"action": "move", "path": "a/b"}], DropReason.BAD_FIELD),
        ("ops", [], DropReason.PREV_DATA_MISMATCH),
    ],
)
def test_wrong_field_is_refused(
    body: Body, field: str, value: Any, reason: DropReason
) -> None:
    assert reason_of({**body, field: value}) == reason


@pytest.mark.parametrize("field", ["repo", "rev", "seq", "commit", "blocks", "ops"])
def test_missing_field_is_refused(body: Body, field: str) -> None:
    del body[field]
    assert reason_of(body) in (
        DropReason.BAD_FIELD,
        DropReason.BAD_SEQ,
        DropReason.COMMIT_MISMATCH,
    )


def test_revision_in_the_future_is_refused() -> None:
    for ahead, good in ((MAX_REV_AHEAD_US, True), (MAX_REV_AHEAD_US + 1, False)):
        rev = tid_from_int((NOW_US + ahead) << 10)
        made = Author().commit(("test.app.note/new", record()), rev=rev)
        if good:
            verify(made)
        else:
            assert reason_of(made) == DropReason.FUTURE_REV


def test_deprecated_fields_are_ignored(body: Body) -> None:
    verify({**body, "tooBig": True, "rebase": True, "blobs": "?", "more": 1})


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: f.update(did="did:plc:" + "e" * 24), id="did"),
        pytest.param(lambda f: f.update(rev=tid_from_int(5 << 10)), id="rev"),
    ],
)
def test_commit_of_another_account_or_revision_is_refused(
    body: Body, change: Callable[[dict[str, Any]], None]
) -> None:
    assert reason_of(resigned(body, change)) == DropReason.COMMIT_MISMATCH


def test_commit_with_fields_of_others_is_verified(body: Body) -> None:
    verify(resigned(body, lambda fields: fields.update(zed=[1, "x"])))


def test_broken_commit_block_is_refused(body: Body) -> None:
    made = resigned(body, lambda fields: fields.update(version=2))
    assert reason_of(made) == DropReason.BAD_COMMIT


@pytest.mark.parametrize(
    ("key", "order"),
    [
        (PrivateKey("k256", b"\x05" * 32), K256_ORDER),
        (PrivateKey("p256", b"\x05" * 32), P256_ORDER),
    ],
)
def test_wrong_key_and_high_s_are_a_signature_error(
    key: PrivateKey, order: int
) -> None:
    made = Author(key=key).commit(("test.app.note/new", record()))
    verify_commit(made, key.public, NOW_US)
    with pytest.raises(InvalidSignatureError):
        verify_commit(made, KEY.public, NOW_US)
    car = read_car(made["blocks"])
    signed = car.blocks.pop(car.root)
    sig = parse_commit(signed).sig
    high = sig[:32] + (order - int.from_bytes(sig[32:], "big")).to_bytes(32, "big")
    changed = signed.replace(sig, high)
    made = {**made, "commit": cid_for(changed), "blocks": car_of(changed, car.blocks)}
    with pytest.raises(InvalidSignatureError) as caught:
        verify_commit(made, key.public, NOW_US)
    assert drop_reason(caught.value) == DropReason.BAD_SIGNATURE


def test_every_error_has_a_reason() -> None:
    kinds = ProtocolError.__subclasses__()
    assert len(kinds) > 6
    for kind in kinds:
        if kind is not RejectedError:
            arguments = ("a", "b") if kind.__name__ == "InvalidRecordError" else ("a",)
            assert isinstance(drop_reason(kind(*arguments)), DropReason)
    assert drop_reason(LimitExceededError("x")) == DropReason.FRAME_TOO_LARGE
    assert drop_reason(ProtocolError("x")) == DropReason.BAD_FRAME


def test_commits_of_a_population_verify_and_mutants_fail() -> None:
    society = FakeAccounts(6, seed=5, records=120)
    keys = society.keys
    rng = random.Random(6)
    refused = seen = 0
    data: dict[str, bytes] = {}
    for raw in society.frames(250):
        frame = decode_frame(raw)
        if frame.t == "#sync":
            verify_sync(frame.body, keys[frame.body["did"]], NOW_US)
        if frame.t != "#commit":
            continue
        key = keys[frame.body["repo"]]
        event = verify_commit(frame.body, key, NOW_US)
        assert data.get(event.did, event.prev_data) == event.prev_data
        assert len(event.ops) == len(frame.body["ops"])
        data[event.did] = event.data
        for _ in range(8):
            at = rng.randrange(len(raw))
            mutant = bytearray(raw)
            mutant[at] ^= 1 << rng.randrange(8)
            seen += 1
            try:
                changed = decode_frame(bytes(mutant))
                if changed.t != "#commit":
                    raise ProtocolError("another kind of message")
                other = verify_commit(changed.body, key, NOW_US)
            except ProtocolError:
                refused += 1
                continue
            # Unsigned parts may differ: seq, since, and fields not read.
            assert (other.did, other.rev, other.data) == (
                event.did,
                event.rev,
                event.data,
            )
            assert other.commit == event.commit
            if other.prev_data is None:
                assert other.ops == []
            else:
                assert other.prev_data == event.prev_data
                assert other.ops == event.ops
    assert refused > seen * 0.9
