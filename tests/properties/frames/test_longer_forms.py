"""Every other encoding of the same value, wherever a block is read: all are refused.

Each head of a record, a tree node and a commit is written in all longer CBOR forms:
numbers as floats, unsorted or double keys, open lengths, other tags.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from crawler.live.verify import verify_commit
from protocol.data import cbor, cbor_strict
from protocol.data.cid import Cid, cid_for
from protocol.errors import InvalidEncodingError, InvalidTreeError, ProtocolError
from protocol.events.drops import DropReason
from protocol.identity.keys import PrivateKey
from protocol.mst import EMPTY_ROOT, Tree, parse_node
from protocol.repo.car import car_block, car_header, read_car
from protocol.repo.commit import parse_commit, sign_commit
from protocol.syntax import Did, tid_from_int

DID = Did("did:plc:" + "g" * 24)
KEY = PrivateKey("k256", b"\x07" * 32)
NOW_US = 1_750_000_000_000_000
REV = tid_from_int(NOW_US << 10)
NOTHING: dict[bytes, bytes] = {}
UNSIGNED, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)

RECORD = cbor.encode(
    {
        "$type": "test.app.note",
        "n": [0, 23, 24, 255, 256, 65_535, 2**32, -1, -25, -500],
        "yes": True,
        "no": False,
        "none": None,
        "text": "ü" * 20,
        "long": "x" * 300,
        "raw": b"\x01\x02",
        "link": Cid(cid_for(b"x")),
        "map": {"b": 1, "a": 2},
        "empty": [{}, [], "", b""],
    }
)

Form = tuple[str, bytes]
"""(change, bytes)."""


class Head:
    """The head of one item: its place, type, argument and end."""

    def __init__(self, raw: bytes, start: int) -> None:
        self.start = start
        self.major, short = raw[start] >> 5, raw[start] & 0x1F
        size = {24: 1, 25: 2, 26: 4, 27: 8}.get(short, 0)
        self.inner = start + 1 + size
        self.argument = (
            int.from_bytes(raw[start + 1 : self.inner], "big") if size else short
        )
        self.parts: list[Head] = []
        self.end = self.inner
        if self.major in (BYTES, TEXT):
            self.end += self.argument
        elif self.major == TAG:
            self._take(raw, 1)
        elif self.major in (ARRAY, MAP):
            self._take(raw, self.argument * (2 if self.major == MAP else 1))

    def _take(self, raw: bytes, count: int) -> None:
        for _ in range(count):
            self.parts.append(Head(raw, self.end))
            self.end = self.parts[-1].end

    def walk(self) -> Iterator[Head]:
        yield self
        for part in self.parts:
            yield from part.walk()


def other_forms(raw: bytes) -> Iterator[Form]:
    """Yield the value, or one that reads alike, in all forms but the right one."""
    for head in Head(raw, 0).walk():
        before, inside = raw[: head.start], raw[head.inner : head.end]
        after, major = raw[head.end :], head.major << 5
        if head.major != SIMPLE:
            for short, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
                longest = head.argument.to_bytes(8, "big")
                if any(longest[: 8 - size]) or size <= head.inner - head.start - 1:
                    continue
                form = bytes([major | short]) + longest[8 - size :]
                yield f"{head.major} in {size + 1}", before + form + inside + after
        if head.major in (UNSIGNED, NEGATIVE):
            number = float(
                head.argument if head.major == UNSIGNED else -1 - head.argument
            )
            for code, name in (("e", "f9"), ("f", "fa"), ("d", "fb")):
                try:
                    form = bytes.fromhex(name) + struct.pack(">" + code, number)
                except OverflowError:
                    continue
                yield f"float {name}", before + form + after
            bignum = head.argument.to_bytes(9, "big")
            yield "bignum", before + bytes([0xC2, 0x49]) + bignum + after
        if head.major in (ARRAY, MAP):
            form = bytes([major | 31]) + inside + b"\xff"
            yield f"open {head.major}", before + form + after
        if head.major in (BYTES, TEXT):
            chunk = raw[head.start : head.end]
            form = bytes([major | 31]) + chunk + b"\xff"
            yield f"open {head.major}", before + form + after
        if head.major == SIMPLE:
            form = bytes([0xF8, raw[head.start] & 0x1F])
            yield "simple in 2", before + form + after
            yield "undefined", before + b"\xf7" + after
            yield "NaN", before + b"\xf9\x7e\x00" + after
        if head.major == MAP and head.argument > 1:
            entries = [
                raw[key.start : value.end]
                for key, value in zip(head.parts[::2], head.parts[1::2], strict=True)
            ]
            start = raw[: head.inner]
            swapped = [entries[1], entries[0], *entries[2:]]
            yield "unsorted", start + b"".join(swapped) + after
            doubled = [entries[0], entries[0], *entries[2:]]
            yield "doubled", start + b"".join(doubled) + after
        if head.major == TAG:
            bare = raw[head.inner : head.end]
            for name, form in (
                ("tag 43", b"\xd8\x2b" + bare),
                ("tag twice", b"\xd8\x2a\xd8\x2a" + bare),
                ("no prefix", b"\xd8\x2a\x58\x24" + bare[3:]),
            ):
                yield name, before + form + after
    yield "more behind", raw + b"\x00"
    yield "twice", raw + raw
    yield "cut off", raw[:-1]


def is_refused(read: Callable[[bytes], Any], raw: bytes) -> bool:
    try:
        read(raw)
    except ProtocolError:
        return True
    return False


def test_other_forms_differ_and_are_many() -> None:
    forms = list(other_forms(RECORD))
    assert len(forms) == len({raw for _, raw in forms} | {RECORD}) - 1 >= 150
    kinds = Counter(name for name, _ in forms)
    assert len(kinds) >= 45, sorted(kinds)
    assert cbor.encode(cbor.decode(RECORD)) == RECORD


@pytest.mark.parametrize(
    "read", [cbor.decode, cbor.decode_fast, cbor.check, cbor_strict.decode]
)
def test_record_in_another_form_is_refused(read: Callable[[bytes], Any]) -> None:
    assert not is_refused(read, RECORD)
    assert [
        name for name, raw in other_forms(RECORD) if not is_refused(read, raw)
    ] == []
    # A large record is scanned first.
    large = cbor.encode({"a": cbor.decode(RECORD), "z": "x" * 9_000})
    assert not is_refused(read, large)
    assert [name for name, raw in other_forms(large) if not is_refused(read, raw)] == []


def test_node_in_another_form_is_refused() -> None:
    tree = Tree(NOTHING.get)
    for number in range(60):
        tree.put(b"test.app.note/%03d" % number, cid_for(b"%d" % number))
    tree.root()
    tried = 0
    for node in tree.new_blocks().values():
        parse_node(node)
        for name, raw in other_forms(node):
            with pytest.raises(InvalidTreeError):
                parse_node(raw)
            assert is_refused(cbor.decode, raw), name
            tried += 1
    assert tried > 1_000


@pytest.mark.parametrize("did", [DID, Did("did:web:a.test")])
@pytest.mark.parametrize("prev", [None, EMPTY_ROOT], ids=["first", "later"])
def test_commit_in_another_form_is_refused(did: Did, prev: bytes | None) -> None:
    signed = sign_commit(did, EMPTY_ROOT, REV, KEY, prev)
    parse_commit(signed)
    forms = list(other_forms(signed))
    assert len(forms) > 30
    for _, raw in forms:
        with pytest.raises(InvalidEncodingError):
            parse_commit(raw)


def test_records_in_other_forms_are_dropped_from_a_valid_commit() -> None:
    forms = list(dict.fromkeys(raw for _, raw in other_forms(RECORD)))
    for start in range(0, len(forms), 150):
        part = forms[start : start + 150]
        tree = Tree(NOTHING.get)
        before = tree.root()
        values = {f"test.app.note/{n:03}": raw for n, raw in enumerate(part)}
        values["test.app.note/right"] = RECORD
        for path, raw in values.items():
            tree.put(path.encode(), cid_for(raw))
        signed = sign_commit(DID, tree.root(), REV, KEY)
        blocks = {cid_for(signed): signed} | tree.new_blocks()
        blocks |= {cid_for(raw): raw for raw in part} | {cid_for(RECORD): RECORD}
        root = cid_for(signed)
        car = car_header(root) + b"".join(
            car_block(cid, raw) for cid, raw in blocks.items()
        )
        assert len(read_car(car).blocks) == len(blocks)
        event = verify_commit(
            {
                "seq": 1,
                "repo": DID,
                "rev": REV,
                "since": tid_from_int(5 << 10),
                "commit": root,
                "blocks": car,
                "prevData": before,
                "ops": [
                    {"action": "create", "path": path, "cid": cid_for(raw)}
                    for path, raw in values.items()
                ],
            },
            KEY.public,
            NOW_US,
        )
        assert [op.rkey for op in event.ops] == ["right"]
        assert {drop.reason for drop in event.drops} == {DropReason.BAD_RECORD_ENCODING}
        assert len(event.drops) == len(part)
        assert event.data == tree.root()
