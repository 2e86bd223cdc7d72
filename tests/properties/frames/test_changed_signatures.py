"""Signatures, changed in known ways of fooling a verifier: none is accepted."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from protocol.identity.keys import K256_ORDER, P256_ORDER, Curve, PrivateKey

ORDERS: dict[Curve, int] = {"k256": K256_ORDER, "p256": P256_ORDER}
TOP = 2**256 - 1


class Signed:
    """A message, its signature, and the two numbers of the signature."""

    def __init__(self, key: PrivateKey, message: bytes) -> None:
        self.message = message
        self.signature = key.sign(message)
        self.order = ORDERS[key.curve]
        self.r = int.from_bytes(self.signature[:32], "big")
        self.s = int.from_bytes(self.signature[32:], "big")

    def join(self, r: int, s: int) -> bytes:
        return (r % 2**256).to_bytes(32, "big") + (s % 2**256).to_bytes(32, "big")


def flip_bit(it: Signed, rng: random.Random) -> bytes:
    changed = bytearray(it.signature)
    changed[rng.randrange(64)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_some(it: Signed, rng: random.Random) -> bytes:
    changed = bytearray(it.signature)
    for place in rng.sample(range(64), rng.randrange(2, 9)):
        changed[place] ^= rng.randrange(1, 256)
    return bytes(changed)


def high_s(it: Signed, rng: random.Random) -> bytes:
    return it.join(it.r, it.order - it.s)


def low_r(it: Signed, rng: random.Random) -> bytes:
    return it.join(it.order - it.r, it.s)


def beyond_the_order(it: Signed, rng: random.Random) -> bytes:
    """Use numbers that are equal modulo the order."""
    r, s = it.r, it.s
    return it.join(*rng.choice(((r + it.order, s), (r, s + it.order), (r, -s))))


def number_at_an_edge(it: Signed, rng: random.Random) -> bytes:
    edges = (0, 1, it.order - 1, it.order, it.order + 1, it.order // 2, TOP)
    edge = rng.choice(edges)
    return it.join(*rng.choice(((edge, it.s), (it.r, edge), (edge, edge))))


def halves_swapped(it: Signed, rng: random.Random) -> bytes:
    return it.signature[32:] + it.signature[:32]


def bytes_reversed(it: Signed, rng: random.Random) -> bytes:
    return it.signature[31::-1] + it.signature[:31:-1]


def as_der(it: Signed, rng: random.Random) -> bytes:
    der = encode_dss_signature(it.r, it.s)
    return rng.choice((der, der[:64], der[-64:], der.ljust(80, b"\0")))


def cut(it: Signed, rng: random.Random) -> bytes:
    place = rng.choice((0, 31, 32, 63))
    return it.signature[:place] + it.signature[place + 1 :]


def longer(it: Signed, rng: random.Random) -> bytes:
    place = rng.choice((0, 32, 64))
    more = bytes(rng.choice((1, 2, 32))) if rng.random() < 0.7 else it.signature
    return it.signature[:place] + more + it.signature[place:]


def leading_zero_left_out(it: Signed, rng: random.Random) -> bytes:
    """Leave out the leading zero, if the number has one."""
    short = it.s.to_bytes((it.s.bit_length() + 7) // 8, "big")
    return it.signature[:32] + short if len(short) < 32 else cut(it, rng)


def made_up(it: Signed, rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice((64, 64, 64, 0, 1, 63, 65, 128)))


CHANGES: tuple[Callable[[Signed, random.Random], bytes], ...] = (
    flip_bit,
    flip_some,
    high_s,
    low_r,
    beyond_the_order,
    number_at_an_edge,
    halves_swapped,
    bytes_reversed,
    as_der,
    cut,
    longer,
    leading_zero_left_out,
    made_up,
)


def signed_messages(key: PrivateKey, rng: random.Random) -> list[Signed]:
    """Return forty messages, and one whose s begins with a zero byte."""
    found = [Signed(key, rng.randbytes(rng.randrange(200))) for _ in range(40)]
    while found[-1].signature[32]:
        found[-1] = Signed(key, rng.randbytes(32))
    return found


def count_taken(curve: Curve, seed: int, count: int) -> tuple[list[str], Counter[str]]:
    """Change signatures; return (accepted ones, tries by kind)."""
    rng = random.Random(seed)
    key, other = (PrivateKey(curve, rng.randbytes(32)) for _ in range(2))
    signed = signed_messages(key, rng)
    for it in signed:
        assert key.public.verify(it.signature, it.message)
        assert not other.public.verify(it.signature, it.message)
        assert not key.public.verify(it.signature, it.message + b"\0")
    taken: list[str] = []
    tried: Counter[str] = Counter()
    for number in range(count):
        change = CHANGES[number % len(CHANGES)]
        it = signed[-1] if change is leading_zero_left_out else rng.choice(signed)
        changed = change(it, rng)
        if changed == it.signature:
            continue
        tried[change.__name__] += 1
        if key.public.verify(changed, it.message):
            taken.append(f"{change.__name__} {changed.hex()}")
        # Tokens may have a high S, and no other difference.
        lenient = key.public.verify(changed, it.message, allow_high_s=True)
        if lenient != (changed == high_s(it, rng)):
            taken.append(f"{change.__name__} for a token: {changed.hex()}")
    return taken, tried


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_changed_signature_is_refused(curve: Curve) -> None:
    taken, tried = count_taken(curve, seed=38, count=5_070)
    assert taken == []
    assert sum(tried.values()) >= 5_000
    assert min(tried[change.__name__] for change in CHANGES) >= 300


@pytest.mark.long
@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_hundred_thousand_changed_signatures_are_refused(curve: Curve) -> None:
    taken, tried = count_taken(curve, seed=83, count=51_000)
    assert taken == []
    assert sum(tried.values()) >= 50_000
