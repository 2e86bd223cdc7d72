"""Canonical CBOR: one encoding for each value."""

from __future__ import annotations

import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from protocol.data import cbor, cbor_strict
from protocol.data.cbor_scan import scan
from protocol.data.cid import Cid, cid_for, raw_cid_for
from protocol.errors import InvalidEncodingError, LimitExceededError, ProtocolError

DIGEST = sha256(b"a block").digest().hex()
DECODERS: list[Callable[[bytes], Any]] = [
    cbor.decode,
    cbor.decode_fast,
    cbor.check,
    cbor_strict.decode,
]

# (name, bytes in hex) that no decoder accepts.
WRONG = [
    ("empty", ""),
    ("int of 0 in two bytes", "1800"),
    ("int of 23 in two bytes", "1817"),
    ("int of 24 in three bytes", "190018"),
    ("int of 255 in three bytes", "1900ff"),
    ("int of 65535 in five bytes", "1a0000ffff"),
    ("int of 2^32-1 in nine bytes", "1b00000000ffffffff"),
    ("negative int of -1 in two bytes", "3800"),
    ("negative int of -257 in five bytes", "3a00000100"),
    ("int of 2^63", "1b8000000000000000"),
    ("int of 2^64-1", "1bffffffffffffffff"),
    ("int of -2^63-1", "3b8000000000000000"),
    ("int of -2^64", "3bffffffffffffffff"),
    ("text length too long", "780161"),
    ("text length cut off", "7801"),
    ("bytes length too long", "580100"),
    ("array length too long", "980100"),
    ("map length too long", "b801616100"),
    ("map length too long in three bytes", "b90001616100"),
    ("float16", "f90000"),
    ("float16 of 1.5", "f93e00"),
    ("float32", "fa3fc00000"),
    ("float64", "fb3ff8000000000000"),
    ("float64 of 1.0", "fb3ff0000000000000"),
    ("float64 of zero", "fb0000000000000000"),
    ("NaN", "fb7ff8000000000000"),
    ("infinity", "fb7ff0000000000000"),
    ("negative infinity", "fbfff0000000000000"),
    ("float in a map", "a16161fb3ff8000000000000"),
    ("float in an array", "81fb3ff8000000000000"),
    ("undefined", "f7"),
    ("simple value", "e0"),
    ("simple value in two bytes", "f8ff"),
    ("false in two bytes", "f814"),
    ("break", "ff"),
    ("indefinite array", "9f00ff"),
    ("indefinite map", "bf616100ff"),
    ("indefinite text", "7f6161ff"),
    ("indefinite bytes", "5f4100ff"),
    ("reserved length 28", "1c"),
    ("reserved length 30", "7e"),
    ("integer key", "a10000"),
    ("bytes key", "a1416100"),
    ("null key", "a1f600"),
    ("keys repeated", "a2616100616101"),
    ("keys unsorted", "a2616200616100"),
    ("longer key first", "a262616100616200"),
    ("bad UTF-8", "6180"),
    ("UTF-8 too long", "62c080"),
    ("UTF-8 of a surrogate", "63eda080"),
    ("UTF-8 beyond Unicode", "64f4908080"),
    ("bad UTF-8 in a key", "a161ff00"),
    ("bytes left over", "0000"),
    ("another item left over", "a0a0"),
    ("array cut off", "8200"),
    ("map cut off", "a16161"),
    ("text cut off", "626100"[:4]),
    ("bytes cut off", "4200"),
    ("array longer than the bytes", "9bffffffffffffffff"),
    ("map longer than the bytes", "bb7fffffffffffffff"),
    ("bytes longer than the bytes", "5bffffffffffffffff"),
    ("text longer than the bytes", "7b4000000000000000"),
    ("date tag", "c11a514b67b0"),
    ("bignum tag", "c249010000000000000000"),
    ("tag 41", f"d8295825000171 1220{DIGEST}"),
    ("tag 42 in three bytes", f"d9002a58250001711220{DIGEST}"),
    ("tag 42 around text", "d82a6161"),
    ("tag 42 around a link", f"d82ad82a58250001711220{DIGEST}"),
    ("tag 42 of nothing", "d82a"),
    ("empty link", "d82a40"),
    ("link of the prefix alone", "d82a4100"),
    ("link without its prefix", f"d82a582401711220{DIGEST}"),
    ("link with another prefix", f"d82a58250101711220{DIGEST}"),
    ("link of version 2", f"d82a58250002711220{DIGEST}"),
    ("link too short", f"d82a58240001711220{DIGEST[:-2]}"),
    ("link too long", f"d82a58260001711220{DIGEST}00"),
    ("link with a long codec", f"d82a58260001f1001220{DIGEST}"),
    ("link length too long", f"d82a5900250001711220{DIGEST}"),
]

ODD_LINKS = [
    b"\x12\x20" + bytes.fromhex(DIGEST),
    b"\x01\x70\x12\x20" + bytes.fromhex(DIGEST),
    b"\x01\x71\x13\x40" + bytes.fromhex(DIGEST) * 2,
    b"\x01\x71\x00\x03abc",
    b"\x01\x71\x00\x00",
    b"\x01\x78\x11\x14" + bytes.fromhex(DIGEST)[:20],
]

EXAMPLES: list[tuple[Any, str]] = [
    (None, "f6"),
    (True, "f5"),
    (False, "f4"),
    (0, "00"),
    (23, "17"),
    (24, "1818"),
    (255, "18ff"),
    (256, "190100"),
    (65_536, "1a00010000"),
    (2**32, "1b0000000100000000"),
    (2**63 - 1, "1b7fffffffffffffff"),
    (-1, "20"),
    (-24, "37"),
    (-25, "3818"),
    (-(2**63), "3b7fffffffffffffff"),
    ("", "60"),
    ("a\0ü", "64 6100c3bc"),
    (b"", "40"),
    (b"\xfb\x1b", "42fb1b"),
    ([], "80"),
    ([1, [None]], "8201 81f6"),
    ({}, "a0"),
    ({"b": 1, "aa": 2, "a": 3, "": 4}, "a4 6004 616103 616201 62616102"),
    (
        {"x": Cid(bytes.fromhex("01711220" + DIGEST))},
        f"a16178d82a58250001711220{DIGEST}",
    ),
]


@pytest.mark.parametrize(
    "encoded", [case[1] for case in WRONG], ids=[case[0] for case in WRONG]
)
@pytest.mark.parametrize("decode", DECODERS, ids=lambda decode: decode.__name__)
def test_decoders_refuse_other_encodings(
    decode: Callable[[bytes], Any], encoded: str
) -> None:
    raw = bytes.fromhex(encoded)
    with pytest.raises((InvalidEncodingError, LimitExceededError)):
        decode(raw)
    with pytest.raises((InvalidEncodingError, LimitExceededError)):
        decode(b"\xa2\x61a\x00\x61b" + raw)


@pytest.mark.parametrize(("value", "encoded"), EXAMPLES)
def test_encode_and_decode_examples(value: Any, encoded: str) -> None:
    raw = bytes.fromhex(encoded)
    assert cbor.encode(value) == raw
    assert cbor.decode(raw) == value
    assert cbor_strict.decode(raw) == value
    cbor.check(raw)


def test_decode_keeps_types() -> None:
    value = [True, 1, False, 0]
    types = [type(item) for item in cbor.decode(cbor.encode(value))]
    assert types == [bool, int, bool, int]
    assert cbor.encode((1, 2)) == cbor.encode([1, 2])


@pytest.mark.parametrize("raw", ODD_LINKS, ids=range(len(ODD_LINKS)))
def test_decode_keeps_links_of_other_forms(raw: bytes) -> None:
    for value in (Cid(raw), {"x": [Cid(raw)]}, {"x": Cid(raw), "y": raw}):
        encoded = cbor.encode(value)
        assert cbor.decode(encoded) == value
        assert cbor_strict.decode(encoded) == value
    assert cbor.decode_fast(cbor.encode({"x": Cid(raw)})) == {"x": raw}


def test_decode_fast_returns_links_as_bytes() -> None:
    link = cid_for(b"x")
    encoded = cbor.encode({"a": Cid(link), "b": [Cid(link), b"y"], "c": {"d": None}})
    expected = {"a": link, "b": [link, b"y"], "c": {"d": None}}
    assert cbor.decode_fast(encoded) == expected


def test_bytes_that_read_as_a_link_stay_bytes() -> None:
    """libipld encodes each of these as a link."""
    for raw in (cid_for(b"x"), raw_cid_for(b"x"), *ODD_LINKS):
        value = {"a": raw, "b": Cid(raw), "c": [raw, {"d": raw}]}
        encoded = cbor.encode(value)
        assert cbor.decode(encoded) == value
        fast = {"a": raw, "b": raw, "c": [raw, {"d": raw}]}
        assert cbor.decode_fast(encoded) == fast
        assert cbor.encode(cbor.decode(encoded)) == encoded


def test_decode_keeps_random_64_bytes() -> None:
    """One in a thousand strings of this size reads as a link."""
    for number in range(5_000):
        sig = sha256(b"%d" % number).digest() * 2
        encoded = cbor.encode({"sig": sig})
        assert cbor.decode(encoded) == {"sig": sig}
        assert cbor.decode_fast(encoded) == {"sig": sig}


@pytest.mark.parametrize(
    "value",
    [
        *(1.5, 1.0, float("nan"), 2**63, -(2**63) - 1),
        *("\ud800", {"\udfff": 1}, {1: 2}, {None: 2}, {"a": {1}}, bytearray(b"a")),
        pytest.param(object(), id="object"),
        Cid(b""),
        Cid(cid_for(b"") + b"x"),
    ],
    ids=repr,
)
def test_encode_refuses_other_values(value: Any) -> None:
    with pytest.raises(InvalidEncodingError):
        cbor.encode(value)
    with pytest.raises(InvalidEncodingError):
        cbor.encode([value])


def nest(levels: int, head: bytes = b"\x81", core: bytes = b"\x00") -> bytes:
    return head * levels + core


@pytest.mark.parametrize("head", [b"\x81", b"\xa1\x61a"])
@pytest.mark.parametrize("decode", DECODERS, ids=lambda decode: decode.__name__)
def test_decoders_limit_depth(decode: Callable[..., Any], head: bytes) -> None:
    decode(nest(32, head))
    for levels in (33, 500, 1_500):
        with pytest.raises(LimitExceededError):
            decode(nest(levels, head))
    decode(nest(4, head), max_depth=4)
    with pytest.raises(LimitExceededError):
        decode(nest(5, head), max_depth=4)
    with pytest.raises(LimitExceededError):
        decode(nest(33, head, b"\x80"))
    decode(nest(31, head, b"\x80"))


def test_encode_limits_depth() -> None:
    value: Any = 0
    for _ in range(64):
        value = [value]
    cbor.encode(value)
    with pytest.raises(LimitExceededError):
        cbor.encode([value])


@pytest.mark.parametrize("decode", DECODERS[:3], ids=lambda decode: decode.__name__)
@pytest.mark.parametrize(
    ("bomb", "seconds"),
    [
        (b"\x81" * 5_000_000, 0.05),
        (b"\xa1\x61a" * 1_666_666, 0.05),
        (b"\x82\x80" * 2_500_000, 0.05),
        (b"\xd8\x2a" * 2_500_000, 0.05),
        (b"\x9a\x00\x01\x00\x00" + b"\x80" * 40 + b"\x81" * 4_999_000, 0.05),
        (b"\x9a\x00\x4c\x4b\x40" + b"\xa0" * 4_999_995, 0.05),
        # Every item up to the bound is scanned.
        ((b"\x99\xff\xff" + b"\xa0" * 0xFFFE) * 70, 0.25),
    ],
    ids=["arrays", "maps", "pairs", "tags", "late", "wide", "wide and deep"],
)
def test_decoders_refuse_bombs_in_little_time_and_memory(
    decode: Callable[[bytes], Any], bomb: bytes, seconds: float
) -> None:
    # Time and memory take two runs, since tracing slows down.
    started = time.process_time()
    with pytest.raises(ProtocolError):
        decode(bomb)
    assert time.process_time() - started < seconds
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            decode(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


def test_false_lengths_take_no_memory() -> None:
    tracemalloc.start()
    try:
        for major in (0x40, 0x60, 0x80, 0xA0):
            for power in range(8, 64):
                bomb = bytes([major | 27]) + (2**power).to_bytes(8, "big")
                with pytest.raises(ProtocolError):
                    cbor.decode(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_raised_recursion_limit_does_not_overflow_the_stack() -> None:
    """libipld recurses up to the interpreter's limit, then the process dies."""
    program = """
import sys
from protocol.data import cbor
from protocol.events import frames
from protocol.errors import ProtocolError

sys.setrecursionlimit(10**6)
for size in (1_000, 4_096, 4_097, 8_192, 8_193, 16_384, 16_385, 200_000):
    for decode in (cbor.decode, cbor.decode_fast, cbor.check, frames.decode_frame):
        for start in (b"", b"\\xa2at\\x61aaop\\x01"):
            try:
                decode(start + b"\\x81" * (size - len(start) - 1) + b"\\x00")
            except ProtocolError:
                continue
            raise SystemExit("taken")
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert done.returncode == 0


def test_decoders_limit_containers_and_keys() -> None:
    most = [0] * 131_072
    assert cbor.decode(cbor.encode(most)) == most
    too_many = cbor.encode([*most, 0])
    long_key = cbor.encode({"k" * 8_192: 0})
    cbor.check(long_key)
    too_long = cbor.encode({"k" * 8_193: 0})
    too_long_in_bytes = cbor.encode([{"é" * 4_097: 0}])
    for decode in DECODERS:
        for raw in (too_many, too_long, too_long_in_bytes):
            with pytest.raises(LimitExceededError):
                decode(raw)


def test_decode_limits_all_items() -> None:
    rows = [[0] * 65_000 for _ in range(4)]
    cbor.check(cbor.encode(rows))
    with pytest.raises(LimitExceededError):
        cbor.check(cbor.encode([*rows, [0] * 65_000]))


def test_decode_of_large_records() -> None:
    value = {
        "text": "ünïcode" * 2_000,
        "links": [Cid(cid_for(b"%d" % n)) for n in range(50)],
        "bytes": [sha256(b"%d" % n).digest() for n in range(50)],
        "ints": list(range(-300, 300)),
        "lookalike": cid_for(b"x"),
    }
    raw = cbor.encode(value)
    assert cbor.decode(raw) == value == cbor_strict.decode(raw)


def test_scan_returns_the_end_of_an_item() -> None:
    for value, encoded in EXAMPLES:
        raw = bytes.fromhex(encoded)
        assert scan(raw + b"\x00" * 9, max_depth=4) == len(raw), value
        assert scan(b"\xff" + raw, 1, max_depth=4) == len(raw) + 1
        if raw:
            with pytest.raises(InvalidEncodingError):
                scan(raw[:-1], max_depth=4)


def test_scan_limits_items_and_depth() -> None:
    raw = cbor.encode({"a": [1, 2], "b": {}})
    assert scan(raw, max_depth=2, max_items=9) == len(raw)
    with pytest.raises(LimitExceededError):
        scan(raw, max_depth=2, max_items=8)
    with pytest.raises(LimitExceededError):
        scan(raw, max_depth=1)
