"""The fast CBOR decoders against the strict one.

All must accept the same bytes and read the same values from them.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol.data import cbor, cbor_strict
from protocol.data.cid import Cid, cid_for, raw_cid_for
from protocol.data.json_form import from_json, to_json
from protocol.errors import ProtocolError
from protocol.events.frames import decode_frame

DIGEST = bytes(range(32))
LINKS = [
    cid_for(b"a"),
    raw_cid_for(b"b"),
    b"\x12\x20" + DIGEST,
    b"\x01\x70\x12\x20" + DIGEST,
    b"\x01\x71\x13\x40" + DIGEST * 2,
    b"\x01\x71\x00\x03abc",
    b"\x01\x71\x00\x00",
    b"\x01\xff\xff\xff\xff\x0f\x12\x20" + DIGEST,
]
# Near links, and bytes that libipld takes for links.
LOOKALIKES = [
    *LINKS,
    cid_for(b"a") + b"x",
    cid_for(b"a")[:-1],
    b"\x12\x20" + DIGEST + b"x",
    b"\x01\x71\x00\x41" + b"a" * 65,
    b"\x02\x71\x12\x20" + DIGEST,
    b"\x01\xf1\x00\x12\x20" + DIGEST,
    b"\x01" + b"\xff" * 9 + b"\x01\x12\x20" + DIGEST,
]

integers = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(
    [0, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, -24, -25, -256, -257]
)
texts = st.text(max_size=30)
links = st.sampled_from(LINKS).map(Cid)
leaves = (
    st.none()
    | st.booleans()
    | integers
    | texts
    | st.binary(max_size=40)
    | st.sampled_from(LOOKALIKES)
    | links
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5)
    ),
    max_leaves=25,
)

# Bytes inserted by mutations: heads and boundary values.
INTERESTING = bytes.fromhex(
    "00 17 18 19 1a 1b 1c 1f 20 37 38 3b 40 57 58 59 5f 60 61 77 78 7f 80 81 97 98 9f"
    "a0 a1 b7 b8 bf c0 d8 2a d9 f4 f5 f6 f7 f8 f9 fa fb ff 01 71 12"
)


def unlink(value: Any) -> Any:
    if isinstance(value, Cid):
        return value.raw
    if isinstance(value, dict):
        return {key: unlink(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unlink(item) for item in value]
    return value


def exact(value: Any) -> Any:
    """Return the value with its types, so that True is not 1."""
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exact(item) for item in value]
    return type(value), value


def verdict(decode: Any, raw: bytes) -> tuple[bool, Any]:
    try:
        return True, decode(raw)
    except ProtocolError:
        return False, None


def assert_same_verdict(raw: bytes) -> bool:
    taken, value = verdict(cbor_strict.decode, raw)
    for decode, expected in (
        (cbor.decode, value),
        (cbor.decode_fast, unlink(value)),
        (cbor.check, None),
    ):
        also_taken, also = verdict(decode, raw)
        assert also_taken == taken, (decode.__name__, raw.hex())
        assert exact(also) == exact(expected), (decode.__name__, raw.hex())
    if taken:
        assert cbor_strict.encode(value) == raw
    return taken


def mutate(rng: random.Random, raw: bytes) -> bytes:
    out = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        position = rng.randrange(len(out) + 1)
        kind = rng.randrange(6)
        byte = rng.choice(INTERESTING) if rng.random() < 0.7 else rng.randrange(256)
        if kind == 0 or not out:
            out.insert(position, byte)
        elif kind == 1:
            out[position % len(out)] = byte
        elif kind == 2:
            out[position % len(out)] ^= 1 << rng.randrange(8)
        elif kind == 3:
            del out[position % len(out)]
        elif kind == 4:
            end = position + rng.randrange(1, 8)
            out[position:position] = out[position:end]
        else:
            out[position:position] = rng.choice(LOOKALIKES)
    return bytes(out)


@given(values)
def test_value_survives_a_round_trip(value: Any) -> None:
    raw = cbor.encode(value)
    assert exact(cbor.decode(raw)) == exact(value)
    assert assert_same_verdict(raw)


@given(values, st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_decoders_agree_on_mutations(value: Any, rng: random.Random) -> None:
    raw = cbor.encode(value)
    for _ in range(10):
        assert_same_verdict(mutate(rng, raw))


@given(st.lists(st.sampled_from(list(INTERESTING)), max_size=24).map(bytes))
@example(b"\xd8\x2a\x58\x26\x00" + cid_for(b"a") + b"x")
@settings(max_examples=200)
def test_decoders_agree_on_random_heads(raw: bytes) -> None:
    assert_same_verdict(raw)


@given(st.binary(max_size=64))
def test_decoders_agree_on_any_bytes(raw: bytes) -> None:
    assert_same_verdict(raw)
    with suppress(ProtocolError):
        decode_frame(raw)


@given(values)
def test_decoders_agree_on_large_values(value: Any) -> None:
    # Values over 8 kB are scanned first.
    raw = cbor.encode({"a": "x" * 9_000, "b": value})
    assert assert_same_verdict(raw)
    assert not assert_same_verdict(raw[:-1])
    assert not assert_same_verdict(raw + b"\x00")


def count_mutations(seed: int, count: int) -> tuple[int, int]:
    rng = random.Random(seed)
    taken = 0
    for number in range(count):
        value = {
            "$type": "a.b.c",
            "n": rng.choice((number, -number, 2**63 - 1, -(2**63), None, True)),
            "link": Cid(rng.choice(LINKS)),
            "bytes": rng.choice((rng.randbytes(64), *LOOKALIKES)),
            "list": ["é" * rng.randrange(4), [], {}, [rng.randrange(2**40)]],
        }
        taken += assert_same_verdict(mutate(rng, cbor.encode(value)))
    return taken, count - taken


def test_decoders_agree_on_many_mutations() -> None:
    taken, refused = count_mutations(seed=1, count=4_000)
    # Both verdicts must occur.
    assert taken > 150
    assert refused > 1_500


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_decoders_agree_on_a_million_mutations() -> None:
    taken, refused = count_mutations(seed=2, count=1_000_000)
    assert min(taken, refused) > 30_000


blessed = st.sampled_from(LINKS[:2]).map(Cid)
json_values = st.recursive(
    st.none() | st.booleans() | integers | texts | st.binary(max_size=40) | blessed,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(texts.filter(lambda key: key[:1] != "$"), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(json_values)
def test_json_form_survives_a_round_trip(value: Any) -> None:
    assert exact(from_json(to_json(value))) == exact(value)
