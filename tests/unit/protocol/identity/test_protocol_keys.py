from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from protocol.errors import InvalidSyntaxError
from protocol.identity.keys import (
    K256_ORDER,
    P256_ORDER,
    Curve,
    PrivateKey,
    PublicKey,
    encode_base58,
    parse_did_key,
    parse_legacy_multibase,
    parse_multikey,
)

MESSAGE = b"a message"
ORDERS: dict[Curve, int] = {"k256": K256_ORDER, "p256": P256_ORDER}
K256_SECRET = bytes(range(1, 33))


@pytest.fixture(params=["k256", "p256"])
def key(request: pytest.FixtureRequest) -> PrivateKey:
    return PrivateKey(request.param, K256_SECRET)


def split(signature: bytes) -> tuple[int, int]:
    return int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")


def join(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def test_signature_is_valid_deterministic_and_low(key: PrivateKey) -> None:
    for number in range(64):
        message = number.to_bytes(4, "big")
        signature = key.sign(message)
        assert len(signature) == 64
        assert signature == key.sign(message)
        assert key.public.verify(signature, message)
        assert split(signature)[1] <= ORDERS[key.curve] // 2


def test_other_message_or_key_is_refused(key: PrivateKey) -> None:
    signature = key.sign(MESSAGE)
    assert not key.public.verify(signature, MESSAGE + b".")
    assert not PrivateKey.generate(key.curve).public.verify(signature, MESSAGE)


def test_every_flipped_bit_is_refused(key: PrivateKey) -> None:
    signature = key.sign(MESSAGE)
    for bit in range(512):
        flipped = bytearray(signature)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not key.public.verify(bytes(flipped), MESSAGE)
        assert not key.public.verify(bytes(flipped), MESSAGE, allow_high_s=True)


def test_high_s_is_refused_unless_allowed(key: PrivateKey) -> None:
    for number in range(32):
        message = number.to_bytes(4, "big")
        r, s = split(key.sign(message))
        high = join(r, ORDERS[key.curve] - s)
        assert not key.public.verify(high, message)
        assert key.public.verify(high, message, allow_high_s=True)


def test_values_out_of_range_are_refused(key: PrivateKey) -> None:
    order = ORDERS[key.curve]
    r, s = split(key.sign(MESSAGE))
    for bad_r in (0, order, order + 1, 2**256 - 1):
        for bad_s in (0, s, order, 2**256 - 1):
            for lenient in (False, True):
                signature = join(bad_r, bad_s)
                assert not key.public.verify(signature, MESSAGE, allow_high_s=lenient)
    for bad_s in (0, order, order + 1, 2**256 - 1):
        for lenient in (False, True):
            assert not key.public.verify(join(r, bad_s), MESSAGE, allow_high_s=lenient)


def test_other_lengths_and_der_are_refused(key: PrivateKey) -> None:
    signature = key.sign(MESSAGE)
    der = encode_dss_signature(*split(signature))
    others = (b"", signature[:-1], signature + b"\0", b"\0" + signature, der)
    for shape in (*others, signature[:32]):
        assert not key.public.verify(shape, MESSAGE)
        assert not key.public.verify(shape, MESSAGE, allow_high_s=True)


def test_threads_do_not_mix_signatures(key: PrivateKey) -> None:
    messages = [number.to_bytes(4, "big") for number in range(200)]
    signed = [(key.sign(message), message) for message in messages]
    wrong = [(signature, b"x" + message) for signature, message in signed]
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda pair: key.public.verify(*pair), signed + wrong))
    assert verdicts == [True] * len(signed) + [False] * len(wrong)


def test_key_texts_round_trip(key: PrivateKey) -> None:
    public = key.public
    assert parse_did_key(public.did_key) == public
    assert parse_multikey(public.multikey) == public
    assert parse_did_key(public.did_key).verify(key.sign(MESSAGE), MESSAGE)
    assert hash(parse_multikey(public.multikey)) == hash(public)
    assert public.did_key.startswith(
        "did:key:zQ3s" if key.curve == "k256" else "did:key:zDn"
    )


def test_private_bytes_round_trip(key: PrivateKey) -> None:
    again = PrivateKey.from_bytes(key.curve, key.to_bytes())
    assert again.public == key.public
    generated = {PrivateKey.generate(key.curve).public for _ in range(2)}
    assert len(generated) == 2


def test_secret_is_not_in_the_repr(key: PrivateKey) -> None:
    assert key.to_bytes().hex() not in repr(key)
    assert repr(key.to_bytes()) not in repr(key)


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_private_key_out_of_range_is_refused(curve: Curve) -> None:
    order = ORDERS[curve]
    for number in (0, order, 2**256 - 1):
        with pytest.raises(InvalidSyntaxError):
            PrivateKey(curve, number.to_bytes(32, "big"))
    with pytest.raises(InvalidSyntaxError):
        PrivateKey(curve, b"\x01" * 31)


def test_public_key_refuses_invalid_points(key: PrivateKey) -> None:
    point = key.public.point
    bad = (
        b"",
        point[:-1],
        point + b"\0",
        b"\x05" + point[1:],
        b"\x02" + b"\xff" * 32,
        b"\x04" + point[1:],
        b"\x04" + bytes(64),
        b"\x00",
        b"\x06" + bytes(64),
    )
    for shape in bad:
        with pytest.raises(InvalidSyntaxError):
            PublicKey(key.curve, shape)


def test_legacy_keys_are_read() -> None:
    # The base point of K-256.
    x = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    y = "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
    key = PublicKey("k256", bytes.fromhex("04" + x + y))
    assert key.point == bytes.fromhex("02" + x)
    codeless = "z" + encode_base58(key.point)
    uncompressed = "z" + encode_base58(bytes.fromhex("04" + x + y))
    assert parse_legacy_multibase("k256", codeless) == key
    assert parse_legacy_multibase("k256", uncompressed) == key
    with pytest.raises(InvalidSyntaxError):
        parse_multikey(codeless)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "z",
        "did:key:",
        "did:key:z",
        "did:key:u" + "A" * 40,
        "did:key:z" + "0" * 46,
        "did:key:z" + "1" * 46,
        "did:key:z" + "z" * 300,
        "did:web:example.com",
    ],
)
def test_invalid_key_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidSyntaxError):
        parse_did_key(text)
    with pytest.raises(InvalidSyntaxError):
        parse_multikey(text)


def test_changed_key_text_is_refused_or_another_key(key: PrivateKey) -> None:
    text = key.public.did_key
    for place in range(9, len(text)):
        for char in "2Zz":
            changed = text[:place] + char + text[place + 1 :]
            if changed == text:
                continue
            try:
                other = parse_did_key(changed)
            except InvalidSyntaxError:
                continue
            assert other != key.public
            assert other.did_key == changed
