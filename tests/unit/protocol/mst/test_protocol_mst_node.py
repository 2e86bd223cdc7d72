from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protocol.data import cbor
from protocol.data.cid import BLOB_PREFIX, Cid, cid_for, raw_cid_for
from protocol.errors import InvalidTreeError, LimitExceededError
from protocol.limits import MAX_NODE_ENTRIES, MAX_TREE_KEY_BYTES
from protocol.mst import (
    EMPTY_NODE,
    EMPTY_ROOT,
    Tree,
    build_root,
    encode_node,
    parse_node,
    shared_prefix,
)
from protocol.mst.node import check_level, height, node_level

A, B, C = (cid_for(name) for name in (b"a", b"b", b"c"))
KEYS = [b"app.test/aaa", b"app.test/aab", b"app.test/b"]


def entry(key: bytes, prefix: Any, value: Any = A, link: Any = None) -> dict[str, Any]:
    return {
        "k": key,
        "p": prefix,
        "v": Cid(value) if type(value) is bytes else value,
        "t": Cid(link) if type(link) is bytes else link,
    }


def node(*entries: Any, left: Any = None, **more: Any) -> dict[str, Any]:
    first = Cid(left) if type(left) is bytes else left
    return {"l": first, "e": list(entries), **more}


GOOD = node(
    entry(b"app.test/aaa", 0, A, C),
    entry(b"b", 11, B),
    entry(b"b", 9, C, A),
    left=B,
)


def test_node_round_trip() -> None:
    raw = cbor.encode(GOOD)
    assert parse_node(raw) == (KEYS, [A, B, C], [B, C, None, A])
    assert encode_node(KEYS, [A, B, C], [B, C, None, A]) == raw


def test_parse_node_of_the_empty_tree() -> None:
    assert parse_node(EMPTY_NODE) == ([], [], [None])
    assert cid_for(encode_node([], [], [None])) == EMPTY_ROOT
    assert cbor.decode(EMPTY_NODE) == {"l": None, "e": []}


def test_every_flipped_bit_is_refused_or_another_node() -> None:
    raw = cbor.encode(GOOD)
    read = 0
    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            content = parse_node(bytes(flipped))
        except (InvalidTreeError, LimitExceededError):
            continue
        read += 1
        assert content != parse_node(raw)
        assert encode_node(*content) == flipped
    assert read  # any digest is valid


INVALID: dict[str, Any] = {
    "order": node(entry(b"b", 0), entry(b"a", 0)),
    "same key": node(entry(b"a", 0), entry(b"a", 0)),
    "same key, cut": node(entry(b"a", 0), entry(b"", 1)),
    "a shorter key": node(entry(b"ab", 0), entry(b"", 1)),
    "empty key": node(entry(b"", 0)),
    "prefix too short": node(entry(b"aa", 0), entry(b"ab", 0)),
    "prefix too long": node(entry(b"aa", 0), entry(b"b", 3)),
    "prefix negative": node(entry(b"aa", 0), entry(b"b", -1)),
    "prefix of nothing": node(entry(b"a", 1)),
    "prefix bool": node(entry(b"aa", 0), entry(b"b", True)),
    "prefix text": node(entry(b"aa", 0), entry(b"b", "1")),
    "prefix null": node(entry(b"aa", 0), entry(b"b", None)),
    "key text": node(entry("a", 0)),  # type: ignore[arg-type]
    "key null": node(entry(None, 0)),  # type: ignore[arg-type]
    "value null": node(entry(b"a", 0, None)),
    "value text": node(entry(b"a", 0, "x")),
    "value list": node(entry(b"a", 0, [A])),
    "link number": node(entry(b"a", 0, A, 5)),
    "link to a blob": node(entry(b"a", 0, A, raw_cid_for(b""))),
    "left to a blob": node(entry(b"a", 0), left=raw_cid_for(b"")),
    "left false": node(entry(b"a", 0), left=False),
    "left text": node(entry(b"a", 0), left="x"),
    "more fields": node(entry(b"a", 0), m=1),
    "more fields of an entry": node({**entry(b"a", 0), "x": 1}),
    "no left": {"e": []},
    "no entries": {"l": None},
    "entries null": {"l": None, "e": None},
    "entries map": {"l": None, "e": {}},
    "entries empty text": {"l": None, "e": ""},
    "entries empty bytes": {"l": None, "e": b""},
    "entry number": {"l": None, "e": [1]},
    "entry list": {"l": None, "e": [[]]},
    "entries text": {"l": None, "e": "x"},
    "list": [],
    "null": None,
    "number": 7,
}


@pytest.mark.parametrize("name", INVALID)
def test_node_with_invalid_content_is_refused(name: str) -> None:
    with pytest.raises(InvalidTreeError):
        parse_node(cbor.encode(INVALID[name]))


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def replace(raw: bytes) -> bytes:
        assert raw.count(old) >= 1
        return raw.replace(old, new, 1)

    return replace


@pytest.mark.parametrize(
    "break_bytes",
    [
        pytest.param(lambda raw: raw + b"\0", id="trailing byte"),
        pytest.param(lambda raw: raw[:-1], id="cut"),
        pytest.param(lambda raw: b"", id="nothing"),
        pytest.param(replaced(b"ae\x83", b"ae\x98\x03"), id="long array head"),
        pytest.param(
            replaced(b"\x4capp.test", b"\x58\x0capp.test"), id="long key head"
        ),
        pytest.param(replaced(b"ap\x00", b"ap\x18\x00"), id="long prefix"),
        pytest.param(replaced(b"ap\x00", b"ap\xf9\x00\x00"), id="prefix float"),
        pytest.param(replaced(b"\xd8\x2a", b"\xd9\x00\x2a"), id="long tag"),
        pytest.param(replaced(b"\xd8\x2a\x58\x25\x00", b"\x58\x25\x00"), id="no tag"),
        pytest.param(
            replaced(b"\xd8\x2a\x58\x25\x00", b"\x58\x24"), id="bytes as link"
        ),
        pytest.param(replaced(b"\x58\x25\x00", b"\x58\x24"), id="link without zero"),
        pytest.param(replaced(b"ae\x83", b"ae\x9f"), id="endless array"),
    ],
)
def test_node_in_another_encoding_is_refused(
    break_bytes: Callable[[bytes], bytes],
) -> None:
    with pytest.raises(InvalidTreeError):
        parse_node(break_bytes(cbor.encode(GOOD)))


def test_key_written_as_a_link_is_refused() -> None:
    # libipld decodes both as bytes, and encodes a link.
    as_link = node(entry(KEYS[0], 0))
    as_link["e"][0]["k"] = Cid(A)
    with pytest.raises(InvalidTreeError):
        parse_node(cbor.encode(as_link))
    as_bytes = cbor.encode(node(entry(A, 0)))
    assert parse_node(as_bytes) == ([A], [A], [None, None])


def test_link_to_a_record_may_be_of_another_form() -> None:
    forms = (BLOB_PREFIX + bytes(32), b"\x12\x20" + bytes(32), b"\x01\x71\x00\x03abc")
    for cid in forms:
        raw = cbor.encode(node(entry(b"a", 0, cid), entry(b"b", 0, A)))
        assert parse_node(raw) == ([b"a", b"b"], [cid, A], [None, None, None])
        assert encode_node([b"a", b"b"], [cid, A], [None, None, None]) == raw


def test_node_keys_may_hold_any_bytes() -> None:
    cids = (b"\x01\x71\x12\x20" + bytes(32), b"\x12\x20" + bytes(32))
    keys = [b"\x00", *cids, b"\xff\x00"]
    raw = encode_node(keys, [A] * 4, [None] * 5)
    assert parse_node(raw)[0] == keys
    cbor.check(raw)


def test_node_limits() -> None:
    keys = [b"%04d" % number for number in range(MAX_NODE_ENTRIES + 1)]
    links: list[bytes | None] = [None] * (len(keys) + 1)
    parse_node(encode_node(keys[:-1], [A] * len(keys[:-1]), links[:-1]))
    with pytest.raises(LimitExceededError):
        parse_node(encode_node(keys, [A] * len(keys), links))
    key = b"a" * MAX_TREE_KEY_BYTES
    parse_node(encode_node([key], [A], [None, None]))
    with pytest.raises(LimitExceededError):
        parse_node(cbor.encode(node(entry(key + b"a", 0))))
    with pytest.raises(LimitExceededError):
        parse_node(b"\x81" * 2_000_000)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises((InvalidTreeError, LimitExceededError)):
        parse_node(b"\xa2ae" + b"\x81" * 100_000)


def test_node_level() -> None:
    assert node_level([], [None]) == 0
    assert node_level([b"blue"], [None, None]) == 1
    with pytest.raises(InvalidTreeError):
        node_level([], [A])


def test_tree_height_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    # Keys of height 41 cannot be found, so the limit is lowered.
    monkeypatch.setattr("protocol.mst.node.MAX_TREE_HEIGHT", 1)
    monkeypatch.setattr("protocol.mst.build.MAX_TREE_HEIGHT", 1)
    monkeypatch.setattr("protocol.mst.tree.MAX_TREE_HEIGHT", 1)
    high = b"88bfafc7"
    assert node_level([b"blue"], [None, None]) == 1
    with pytest.raises(LimitExceededError):
        node_level([high], [None, None])
    with pytest.raises(LimitExceededError):
        build_root([(high, A)])
    with pytest.raises(LimitExceededError):
        Tree({}.get).put(high, A)


def test_check_level() -> None:
    check_level([b"asdf"], [None, None], 0)
    check_level([b"blue"], [A, None], 1)
    check_level([], [A], 1)
    for keys, links, level in (
        ([], [None], 1),
        ([], [A], 0),
        ([b"asdf"], [A, None], 0),
        ([b"asdf"], [None, None], 1),
        ([b"blue"], [None, None], 0),
        ([b"blue"], [None, None], 2),
        ([b"blue", b"asdf"], [None, None, None], 1),
    ):
        with pytest.raises(InvalidTreeError):
            check_level(keys, links, level)


def test_check_level_agrees_with_height() -> None:
    for number in range(20_000):
        key = b"%d" % number
        level = height(key)
        check_level([key], [A if level else None, None], level)
        for other in {0, level - 1, level + 1} - {level, -1}:
            with pytest.raises(InvalidTreeError):
                check_level([key], [A if other else None, None], other)


@pytest.mark.parametrize(
    ("left", "right", "length"),
    [(b"", b"", 0), (b"ab", b"abc", 2), (b"abc", b"abd", 2), (b"a\0", b"a", 1)],
)
def test_shared_prefix(left: bytes, right: bytes, length: int) -> None:
    assert shared_prefix(left, right) == shared_prefix(right, left) == length
