from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from crawl_author import Author as StreamAuthor
from crawl_author import Op

from bench.fake_accounts import FakeAccounts
from crawler.live.verify import (
    UNFOLLOWED,
    MissingRecordError,
    RejectedError,
    drop_reason,
    verify_commit,
    verify_commits,
    verify_sync,
)
from protocol.data import cbor
from protocol.data.cbor_scan import scan_items
from protocol.data.cid import BLOB_PREFIX, Cid, cid_for
from protocol.data.record import open_record
from protocol.errors import (
    InvalidSignatureError,
    LimitExceededError,
    MissingBlockError,
    ProtocolError,
)
from protocol.events.drops import DropReason
from protocol.events.event import CommitEvent, DroppedOp
from protocol.events.frames import decode_frame
from protocol.identity.keys import K256_ORDER, P256_ORDER, PrivateKey
from protocol.limits import (
    MAX_COMMIT_ITEMS,
    MAX_RECORD_BYTES,
    MAX_RECORD_DEPTH,
    MAX_REV_AHEAD_US,
    UNCOUNTED_RECORD_BYTES,
)
from protocol.mst import EMPTY_NODE, EMPTY_ROOT, Tree
from protocol.repo.car import car_block, car_header, read_car
from protocol.repo.commit import parse_commit, sign_commit
from protocol.syntax import Did, Tid, tid_from_int

NOW_US = 1_750_000_100_000_000
REV = tid_from_int(NOW_US << 10)
DID = Did("did:plc:" + "d" * 24)
KEY = PrivateKey("k256", b"\x04" * 32)
Body = dict[str, Any]


def record(text: str = "hello") -> bytes:
    return cbor.encode({"$type": "test.app.note", "text": text})


class Author:
    """Writes commits by hand, so that each part can be told to lie."""

    def __init__(self, count: int = 40, key: PrivateKey = KEY) -> None:
        self.key = key
        self.tree = Tree({}.get)
        self.values: dict[bytes, bytes] = {}
        for number in range(count):
            self.put(f"test.app.note/k{number:03}", record(str(number)))
        self.tree.root()

    def put(self, path: str, value: bytes) -> bytes | None:
        cid = cid_for(value)
        self.values[cid] = value
        return self.tree.put(path.encode(), cid)

    def commit(
        self,
        *changes: tuple[str, bytes | None],
        rev: Tid = REV,
        did: Did = DID,
    ) -> Body:
        """The payload of a commit that puts values, or with None deletes."""
        prev_data = self.tree.root()
        ops: list[Body] = []
        records: dict[bytes, bytes] = {}
        for path, value in changes:
            if value is None:
                prev = self.tree.delete(path.encode())
                ops.append(
                    {"action": "delete", "path": path, "cid": None, "prev": prev}
                )
                continue
            cid = cid_for(value)
            prev = self.put(path, value)
            records[cid] = value
            op = {"action": "update" if prev else "create", "path": path, "cid": cid}
            ops.append(op if prev is None else {**op, "prev": prev})
        proof = self.tree.proof_blocks([path.encode() for path, _ in changes])
        signed = sign_commit(did, self.tree.root(), rev, self.key)
        return {
            "seq": 7,
            "repo": did,
            "rev": rev,
            "since": tid_from_int((NOW_US - 10) << 10),
            "commit": cid_for(signed),
            "blocks": car_of(signed, proof | records),
            "ops": ops,
            "prevData": prev_data,
        }


def car_of(signed: bytes, blocks: dict[bytes, bytes]) -> bytes:
    root = cid_for(signed)
    pieces = [car_header(root), car_block(root, signed)]
    return b"".join(pieces + [car_block(cid, raw) for cid, raw in blocks.items()])


def resigned(body: Body, change: Callable[[dict[str, Any]], None]) -> Body:
    """The message with its commit block changed and signed again."""
    car = read_car(body["blocks"])
    fields: Any = cbor.decode(car.blocks[car.root])
    del fields["sig"]
    change(fields)
    signed = cbor.encode({**fields, "sig": KEY.sign(cbor.encode(fields))})
    blocks = {cid: raw for cid, raw in car.blocks.items() if cid != car.root}
    return {**body, "commit": cid_for(signed), "blocks": car_of(signed, blocks)}


def verify(body: Body) -> CommitEvent:
    return verify_commit(body, KEY.public, NOW_US, host=3)


def reason_of(body: Body) -> DropReason:
    with pytest.raises(ProtocolError) as caught:
        verify(body)
    return drop_reason(caught.value)


@pytest.fixture
def body() -> Body:
    return Author().commit(
        ("test.app.note/new", record("new")),
        ("test.app.note/k003", record("other")),
        ("test.app.note/k007", None),
    )


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


def test_every_flipped_bit_of_the_blocks_is_refused(body: Body) -> None:
    good = verify(body)
    blocks = body["blocks"]
    rng = random.Random(1)
    accepted = 0
    for bit in rng.sample(range(len(blocks) * 8), 1_500):
        flipped = bytearray(blocks)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            event = verify({**body, "blocks": bytes(flipped)})
        except ProtocolError:
            continue
        accepted += 1
        assert event == good
    assert accepted == 0


def test_block_that_is_not_what_its_cid_says_is_refused(body: Body) -> None:
    car = read_car(body["blocks"])
    signed = car.blocks.pop(car.root)
    for cid, raw in car.blocks.items():
        changed = car.blocks | {cid: raw[:-1] + bytes([raw[-1] ^ 1])}
        made = {**body, "blocks": car_of(signed, changed)}
        assert reason_of(made) == DropReason.BAD_CAR


def test_cut_blocks_are_never_a_commit(body: Body) -> None:
    blocks = body["blocks"]
    for end in range(0, len(blocks), 7):
        with pytest.raises(ProtocolError):
            verify({**body, "blocks": blocks[:end]})


def test_unneeded_shuffled_and_double_blocks_do_not_matter(body: Body) -> None:
    good = verify(body)
    car = read_car(body["blocks"])
    signed = car.blocks.pop(car.root)
    extra = cid_for(b"\xf6")
    others = list({**car.blocks, extra: b"\xf6"}.items())
    random.Random(2).shuffle(others)
    root = cid_for(signed)
    pieces = [car_header(root)]
    pieces += [car_block(cid, raw) for cid, raw in [*others, *others]]
    pieces.append(car_block(root, signed))
    assert verify({**body, "blocks": b"".join(pieces)}) == good


def test_node_missing_from_the_proof_is_refused(body: Body) -> None:
    good = verify(body)
    car = read_car(body["blocks"])
    signed = car.blocks.pop(car.root)
    missing = 0
    for cid in car.blocks:
        rest = {other: raw for other, raw in car.blocks.items() if other != cid}
        try:
            # The neighbours of an updated key, for one, come without need.
            assert verify({**body, "blocks": car_of(signed, rest)}) == good
        except MissingBlockError:
            missing += 1
    assert missing > len(car.blocks) // 2


def test_missing_record_is_told_apart(body: Body) -> None:
    car = read_car(body["blocks"])
    signed = car.blocks.pop(car.root)
    del car.blocks[cid_for(record("new"))]
    with pytest.raises(MissingRecordError) as caught:
        verify({**body, "blocks": car_of(signed, car.blocks)})
    assert drop_reason(caught.value) == DropReason.MISSING_RECORD


LIE = cid_for(b"lie")


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
        (
            lambda ops: ops[2].update(path="test.app.note/k008"),
            DropReason.OPS_MISMATCH,
        ),
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


def test_bad_path_drops_its_operation_only() -> None:
    paths = [
        "test.app.note/" + "r" * 513,
        "test.app.note/..",
        "test.app.note/a/b",
        "test.app.note/ä",
        "test.app.note/",
        "note",
        "$test.app.note/a",
        "/a",
        "test.app.note/" + "r" * 900,
    ]
    author = Author()
    made = author.commit(
        *((path, record(path)) for path in paths),
        ("test.app.note/a:b", record("colon")),
    )
    event = verify(made)
    assert [op.rkey for op in event.ops] == ["a:b"]
    assert list(event.drops) == [
        DroppedOp(path, cid_for(record(path)), DropReason.BAD_PATH) for path in paths
    ]
    gone = verify(author.commit(*((path, None) for path in paths)))
    assert list(gone.drops) == [
        DroppedOp(path, None, DropReason.BAD_PATH) for path in paths
    ]


def test_bad_record_drops_its_operation_only() -> None:
    def sized(size: int) -> bytes:
        start = record("")
        return cbor.encode(
            {"$type": "test.app.note", "text": "x" * (size - len(start) - 4)}
        )

    largest, too_large = sized(MAX_RECORD_BYTES), sized(MAX_RECORD_BYTES + 1)
    assert len(largest) == MAX_RECORD_BYTES
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    bad = {
        "float": (b"\xa1axg\xfb\x3f\xf8" + bytes(6), DropReason.BAD_RECORD_ENCODING),
        "half": (b"\xa1ax\xf9\x3e\x00", DropReason.BAD_RECORD_ENCODING),
        "minimal": (b"\xa1ax\x18\x01", DropReason.BAD_RECORD_ENCODING),
        "trailing": (record() + b"\x00", DropReason.BAD_RECORD_ENCODING),
        "unsorted": (b"\xa2ab\x01aa\x01", DropReason.BAD_RECORD_ENCODING),
        "empty": (b"", DropReason.BAD_RECORD_ENCODING),
        "list": (b"\x80", DropReason.BAD_RECORD_TYPE),
        "deep": (cbor.encode({"a": deep}), DropReason.RECORD_TOO_DEEP),
    }
    made = Author().commit(
        ("test.app.note/good", record("good")),
        *((f"test.app.note/{name}", value) for name, (value, _) in bad.items()),
    )
    event = verify(made)
    assert [op.rkey for op in event.ops] == ["good"]
    assert list(event.drops) == [
        DroppedOp(f"test.app.note/{name}", cid_for(value), reason)
        for name, (value, reason) in bad.items()
    ]
    event = verify(Author().commit(("test.app.note/a", largest)))
    assert len(event.ops) == 1
    event = verify(
        Author().commit(("test.app.note/a", too_large), ("test.app.note/b", record()))
    )
    assert [op.rkey for op in event.ops] == ["b"]
    assert [drop.reason for drop in event.drops] == [DropReason.RECORD_TOO_LARGE]


def test_record_link_of_another_form_is_dropped() -> None:
    author = Author()
    author.tree.put(b"test.app.note/odd", BLOB_PREFIX + bytes(32))
    made = author.commit(("test.app.note/good", record("good")))
    odd = BLOB_PREFIX + bytes(32)
    path = "test.app.note/odd"
    # The odd record is part of this commit, not of what came before it.
    author.tree.delete(path.encode())
    author.tree.delete(b"test.app.note/good")
    made["prevData"] = author.tree.root()
    made["ops"].append({"action": "create", "path": path, "cid": odd})
    author.tree.put(path.encode(), odd)
    author.tree.put(b"test.app.note/good", cid_for(record("good")))
    proof = author.tree.proof_blocks([path.encode(), b"test.app.note/good"])
    car = read_car(made["blocks"])
    made["blocks"] = car_of(car.blocks[car.root], car.blocks | proof)
    event = verify(made)
    assert [op.rkey for op in event.ops] == ["good"]
    assert list(event.drops) == [DroppedOp(path, odd, DropReason.BAD_RECORD_ENCODING)]


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


def test_one_record_at_many_paths_counts_each_time() -> None:
    """A message of 80 kB could take a hundred times the room where its records are
    kept."""
    heavy = cbor.encode({"$type": "test.app.note", "x": "x" * 60_000})
    for count, taken in ((30, True), (40, False)):
        paths = [f"test.app.note/n{number:03}" for number in range(count)]
        body = Author().commit(*((path, heavy) for path in paths))
        assert len(body["blocks"]) < 80_000
        if taken:
            assert len(verify_commit(body, KEY.public, NOW_US).ops) == count
            continue
        with pytest.raises(RejectedError) as caught:
            verify_commit(body, KEY.public, NOW_US)
        # Signed all the same: the repo is fetched.
        assert caught.value.reason is DropReason.TREE_TOO_LARGE
        assert caught.value.reason in UNFOLLOWED


def test_tree_out_of_bounds_is_counted_as_such() -> None:
    made = Author(0).commit()
    made["ops"] = [{"action": "delete", "path": "x" * 1025, "cid": None, "prev": LIE}]
    assert reason_of(made) == DropReason.TREE_TOO_LARGE


def test_root_that_is_no_node_is_a_bad_tree() -> None:
    author = Author()
    made = author.commit(("test.app.note/a", record()))
    not_a_node = cbor.encode({"e": [], "l": None, "x": 1})
    made = resigned(made, lambda fields: fields.update(data=Cid(cid_for(not_a_node))))
    car = read_car(made["blocks"])
    blocks = car.blocks | {cid_for(not_a_node): not_a_node}
    made["blocks"] = car_of(blocks.pop(car.root), blocks)
    assert reason_of(made) == DropReason.BAD_TREE


def sync_body(key: PrivateKey = KEY, rev: Tid = REV) -> Body:
    signed = sign_commit(DID, EMPTY_ROOT, rev, key)
    return {"seq": 9, "did": DID, "rev": rev, "blocks": car_of(signed, {})}


def test_good_sync_gives_its_event() -> None:
    event = verify_sync(sync_body(), KEY.public, NOW_US, host=4)
    assert (event.did, event.rev, event.data) == (DID, REV, EMPTY_ROOT)
    assert (event.seq, event.host) == (9, 4)
    assert parse_commit(event.commit).did == DID


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("did", None, DropReason.BAD_FIELD),
        ("did", "did:plc:" + "e" * 24, DropReason.COMMIT_MISMATCH),
        ("rev", None, DropReason.BAD_FIELD),
        ("rev", tid_from_int(1 << 10), DropReason.COMMIT_MISMATCH),
        ("rev", tid_from_int((NOW_US + 301_000_000) << 10), DropReason.FUTURE_REV),
        ("seq", 0, DropReason.BAD_SEQ),
        ("blocks", b"", DropReason.BAD_CAR),
        ("blocks", None, DropReason.BAD_FIELD),
        ("blocks", bytes(10_001), DropReason.BLOCKS_TOO_LARGE),
        (
            "blocks",
            car_header(EMPTY_ROOT) + car_block(EMPTY_ROOT, EMPTY_NODE),
            DropReason.BAD_COMMIT,
        ),
    ],
)
def test_wrong_sync_is_refused(field: str, value: Any, reason: DropReason) -> None:
    with pytest.raises(RejectedError) as caught:
        verify_sync({**sync_body(), field: value}, KEY.public, NOW_US)
    assert drop_reason(caught.value) == reason


def test_sync_with_a_wrong_signature_is_told_apart() -> None:
    with pytest.raises(InvalidSignatureError):
        verify_sync(sync_body(PrivateKey.generate()), KEY.public, NOW_US)
    blocks = sync_body()["blocks"]
    for bit in range(0, len(blocks) * 8, 5):
        flipped = bytearray(blocks)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolError):
            verify_sync({**sync_body(), "blocks": bytes(flipped)}, KEY.public, NOW_US)


def test_every_error_has_a_reason() -> None:
    kinds = ProtocolError.__subclasses__()
    assert len(kinds) > 6
    for kind in kinds:
        if kind is not RejectedError:
            arguments = ("a", "b") if kind.__name__ == "InvalidRecordError" else ("a",)
            assert isinstance(drop_reason(kind(*arguments)), DropReason)
    assert drop_reason(LimitExceededError("x")) == DropReason.FRAME_TOO_LARGE
    assert drop_reason(ProtocolError("x")) == DropReason.BAD_FRAME


def test_a_society_is_believed_and_its_mutants_are_not() -> None:
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
            # What is not signed may differ: seq, since, and fields not read.
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


def heavy(items: int, size: int = 0) -> bytes:
    """A record of empty lists, of which each byte is a list of its own."""
    return cbor.encode({"more": [[]] * items, "text": "x" * size})


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: [heavy(30_000, n) for n in range(60)], "many records full of items"),
        (lambda: [heavy(60_000)] * 200, "one record full of items under many keys"),
        (lambda: [heavy(3, 900_000)] * 200, "one large record under many keys"),
        (lambda: [heavy(8_000, n) for n in range(200)], "many of an unread size"),
    ],
)
def test_records_that_take_long_to_read_are_left_to_a_fetch(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], list[bytes]], why: str
) -> None:
    changes = [(f"test.app.note/m{n:03}", raw) for n, raw in enumerate(make())]
    made = Author().commit(*changes)
    assert len(made["blocks"]) < 2_000_000, why
    opened: list[bytes] = []

    def watched(value: bytes, most: int) -> Any:
        opened.append(value)
        return open_record(value, most)

    monkeypatch.setattr("crawler.live.verify.open_record", watched)
    reason = reason_of(made)
    items = sum(scan_items(value, max_depth=MAX_RECORD_DEPTH)[1] for value in opened)
    # A byte may be a container and an item of another.
    assert items <= 2 * UNCOUNTED_RECORD_BYTES + MAX_COMMIT_ITEMS, why
    assert reason == DropReason.TREE_TOO_LARGE
    assert reason in UNFOLLOWED


def test_one_record_may_stand_under_all_keys_of_a_commit() -> None:
    changes = [(f"test.app.note/m{n:03}", heavy(20, 8_000)) for n in range(200)]
    assert len(verify(Author().commit(*changes)).ops) == 200


def test_large_records_are_not_handed_on_decoded() -> None:
    small, large = heavy(200), heavy(1_000)
    for values, kept in (([small], 1), ([large], 0), ([small] * 100, 2)):
        changes = [(f"test.app.note/m{n:03}", raw) for n, raw in enumerate(values)]
        ops = verify(Author().commit(*changes)).ops
        assert [op.value for op in ops] == values
        assert sum(op.fields is not None for op in ops) == kept


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
