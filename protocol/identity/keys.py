"""Signing keys on P-256 and K-256 (specs/cryptography).

Signatures are 64 raw bytes r||s over the SHA-256 of the message, low-S, never DER.
libsecp256k1 refuses high-S itself; for OpenSSL (P-256) it is checked here.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from typing import Final, Literal

from coincurve import GLOBAL_CONTEXT
from coincurve._libsecp256k1 import ffi, lib
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol.errors import InvalidSyntaxError

Curve = Literal["k256", "p256"]

SIGNATURE_BYTES: Final = 64
POINT_BYTES: Final = 33
UNCOMPRESSED_POINT_BYTES: Final = 65
SECRET_BYTES: Final = 32
MAX_KEY_TEXT: Final = 256

DID_KEY_PREFIX: Final = "did:key:"
MULTIKEY_CODES: Final[dict[Curve, bytes]] = {"k256": b"\xe7\x01", "p256": b"\x80\x24"}
_CURVE_OF_CODE: Final[dict[bytes, Curve]] = {
    code: curve for curve, code in MULTIKEY_CODES.items()
}

K256_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_P256_HALF_ORDER: Final = P256_ORDER // 2

_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58_VALUE: Final = {char: value for value, char in enumerate(_BASE58)}

_CONTEXT: Final = GLOBAL_CONTEXT.ctx
_P256: Final = ec.SECP256R1()
# Prehashed: OpenSSL spends more time to look up its SHA-256 than to run it.
_ES256: Final = ec.ECDSA(Prehashed(hashes.SHA256()))
_ES256_DETERMINISTIC: Final = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)

_Verifier = Callable[[bytes, bytes, bool], bool]


class PublicKey:
    """A parsed public key; parsing costs as much as a signature check.

    `point` is the compressed point; an uncompressed one of 65 bytes is also accepted.
    Raises InvalidSyntaxError unless it is a point of the curve.
    """

    __slots__ = ("_verify", "curve", "point")

    curve: Curve
    point: bytes

    def __init__(self, curve: Curve, point: bytes) -> None:
        if len(point) == POINT_BYTES:
            well_formed = point[0] in (2, 3)
        else:
            well_formed = len(point) == UNCOMPRESSED_POINT_BYTES and point[0] == 4
        if not well_formed:
            raise InvalidSyntaxError("public key is not a point of its curve")
        self.curve = curve
        if curve == "k256":
            self.point, self._verify = _load_k256(point)
        else:
            self.point, self._verify = _load_p256(point)

    def verify(
        self, signature: bytes, message: bytes, *, allow_high_s: bool = False
    ) -> bool:
        """Return True if this key made the signature (64 bytes, r||s) over `message`.

        `allow_high_s` is for tokens only (specs/xrpc); repos, labels and PLC operations
        are strict.
        """
        return self._verify(signature, message, allow_high_s)

    @property
    def multikey(self) -> str:
        """Return the `z...` text of a Multikey verification method."""
        return "z" + encode_base58(MULTIKEY_CODES[self.curve] + self.point)

    @property
    def did_key(self) -> str:
        return DID_KEY_PREFIX + self.multikey

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PublicKey):
            return NotImplemented
        return self.curve == other.curve and self.point == other.point

    def __hash__(self) -> int:
        return hash((self.curve, self.point))

    def __repr__(self) -> str:
        return f"PublicKey({self.did_key})"


class PrivateKey:
    """A signing key; `secret` is 32 bytes, big-endian, in 1..order-1."""

    __slots__ = ("_secret", "_sign", "curve", "public")

    curve: Curve
    public: PublicKey

    def __init__(self, curve: Curve, secret: bytes) -> None:
        order = K256_ORDER if curve == "k256" else P256_ORDER
        if len(secret) != SECRET_BYTES:
            raise InvalidSyntaxError("private key is not 32 bytes")
        number = int.from_bytes(secret, "big")
        if not 0 < number < order:
            raise InvalidSyntaxError("private key is out of range")
        self.curve = curve
        self._secret = secret
        if curve == "k256":
            point = ffi.new("secp256k1_pubkey *")
            lib.secp256k1_ec_pubkey_create(_CONTEXT, point, secret)
            self.public = PublicKey(curve, _serialize_k256(point))
            self._sign = _signer_k256(secret)
        else:
            key = ec.derive_private_key(number, _P256)
            self.public = PublicKey(
                curve,
                key.public_key().public_bytes(
                    Encoding.X962, PublicFormat.CompressedPoint
                ),
            )
            self._sign = _signer_p256(key)

    @classmethod
    def generate(cls, curve: Curve = "k256") -> PrivateKey:
        order = K256_ORDER if curve == "k256" else P256_ORDER
        number = secrets.randbelow(order - 1) + 1
        return cls(curve, number.to_bytes(SECRET_BYTES, "big"))

    @classmethod
    def from_bytes(cls, curve: Curve, secret: bytes) -> PrivateKey:
        return cls(curve, secret)

    def to_bytes(self) -> bytes:
        return self._secret

    def sign(self, message: bytes) -> bytes:
        """Return the deterministic signature (RFC 6979) as 64 bytes r||s, low-S."""
        return self._sign(message)

    def __repr__(self) -> str:
        # Keeps the secret out of logs.
        return f"PrivateKey({self.public.did_key})"


@lru_cache(maxsize=32_768)
def parse_did_key(text: str) -> PublicKey:
    """Return the key of a `did:key:z...` text; raise InvalidSyntaxError."""
    if not text.startswith(DID_KEY_PREFIX):
        raise InvalidSyntaxError("not a did:key")
    return parse_multikey(text[len(DID_KEY_PREFIX) :])


def parse_multikey(text: str) -> PublicKey:
    """Return the key of a Multikey `z...` text; raise InvalidSyntaxError."""
    raw = decode_multibase(text)
    curve = _CURVE_OF_CODE.get(raw[:2])
    if curve is None or len(raw) != 2 + POINT_BYTES:
        raise InvalidSyntaxError("multikey has an unknown curve or length")
    return PublicKey(curve, raw[2:])


def parse_legacy_multibase(curve: Curve, text: str) -> PublicKey:
    """Return the key of a legacy verification method, without a curve code in its text.

    The point may be compressed or not. Raises InvalidSyntaxError.
    """
    return PublicKey(curve, decode_multibase(text))


def _load_k256(point: bytes) -> tuple[bytes, _Verifier]:
    parsed = ffi.new("secp256k1_pubkey *")
    if lib.secp256k1_ec_pubkey_parse(_CONTEXT, parsed, point, len(point)) != 1:
        raise InvalidSyntaxError("public key is not a point of K-256")

    parse_compact = lib.secp256k1_ecdsa_signature_parse_compact
    normalize = lib.secp256k1_ecdsa_signature_normalize
    check = lib.secp256k1_ecdsa_verify
    new = ffi.new
    context = _CONTEXT

    def verify(signature: bytes, message: bytes, allow_high_s: bool) -> bool:
        if len(signature) != SIGNATURE_BYTES:
            return False
        # Not shared: the C calls release the interpreter lock.
        buffer = new("secp256k1_ecdsa_signature *")
        if parse_compact(context, buffer, signature) != 1:
            return False
        if allow_high_s:
            normalize(context, buffer, buffer)
        return bool(check(context, buffer, sha256(message).digest(), parsed) == 1)

    return _serialize_k256(parsed), verify


def _serialize_k256(parsed: object) -> bytes:
    output = ffi.new("unsigned char[33]")
    length = ffi.new("size_t *", POINT_BYTES)
    lib.secp256k1_ec_pubkey_serialize(
        _CONTEXT, output, length, parsed, lib.SECP256K1_EC_COMPRESSED
    )
    return bytes(ffi.buffer(output, POINT_BYTES))


def _load_p256(point: bytes) -> tuple[bytes, _Verifier]:
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(_P256, point)
    except ValueError as error:
        raise InvalidSyntaxError("public key is not a point of P-256") from error
    check = key.verify
    number = int.from_bytes

    def verify(signature: bytes, message: bytes, allow_high_s: bool) -> bool:
        if len(signature) != SIGNATURE_BYTES:
            return False
        r = number(signature[:32], "big")
        s = number(signature[32:], "big")
        limit = P256_ORDER - 1 if allow_high_s else _P256_HALF_ORDER
        if not (0 < r < P256_ORDER and 0 < s <= limit):
            return False
        try:
            check(encode_dss_signature(r, s), sha256(message).digest(), _ES256)
        except InvalidSignature:
            return False
        return True

    return key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint), verify


def _signer_k256(secret: bytes) -> Callable[[bytes], bytes]:
    def sign(message: bytes) -> bytes:
        buffer = ffi.new("secp256k1_ecdsa_signature *")
        output = ffi.new("unsigned char[64]")
        digest = sha256(message).digest()
        lib.secp256k1_ecdsa_sign(_CONTEXT, buffer, digest, secret, ffi.NULL, ffi.NULL)
        lib.secp256k1_ecdsa_signature_serialize_compact(_CONTEXT, output, buffer)
        return bytes(ffi.buffer(output, SIGNATURE_BYTES))

    return sign


def _signer_p256(key: ec.EllipticCurvePrivateKey) -> Callable[[bytes], bytes]:
    def sign(message: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(message, _ES256_DETERMINISTIC))
        if s > _P256_HALF_ORDER:
            s = P256_ORDER - s
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return sign


def decode_multibase(text: str) -> bytes:
    """Return the bytes of a base58btc text with "z"; raise InvalidSyntaxError."""
    if not text.startswith("z"):
        raise InvalidSyntaxError("key text is not base58btc multibase")
    if len(text) > MAX_KEY_TEXT:
        raise InvalidSyntaxError("key text is too long")
    number = 0
    for char in text[1:]:
        value = _BASE58_VALUE.get(char)
        if value is None:
            raise InvalidSyntaxError("key text is not base58btc multibase")
        number = number * 58 + value
    body = text[1:]
    zeros = len(body) - len(body.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def encode_base58(raw: bytes) -> str:
    """Return the base58btc text of some bytes, without the multibase prefix."""
    number = int.from_bytes(raw, "big")
    chars = []
    while number:
        number, digit = divmod(number, 58)
        chars.append(_BASE58[digit])
    zeros = len(raw) - len(raw.lstrip(b"\x00"))
    return "1" * zeros + "".join(reversed(chars))
