"""Keys derived from the server's secret, and the encryption of private keys at rest."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.identity.keys import Curve, PrivateKey

_NONCE_BYTES = 12
_MARKS: dict[Curve, bytes] = {"k256": b"k", "p256": b"p"}
_CURVES = {mark: curve for curve, mark in _MARKS.items()}


class VaultError(Exception):
    """A stored key that does not open: another secret, or a changed row."""


def derive_key(secret: bytes, purpose: str) -> bytes:
    """Return 32 bytes for one purpose; keys of two purposes are independent."""
    return HKDF(
        algorithm=SHA256(),
        length=32,
        salt=None,
        info=f"bigworld pds {purpose}".encode(),
    ).derive(secret)


class Vault:
    """The encryption of private keys with AES-256-GCM.

    A sealed key is bound to its DID and its role: it does not open in another row.
    """

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCM(derive_key(secret, "private keys at rest"))

    def seal(self, key: PrivateKey, *, did: str, role: str) -> bytes:
        """Return nonce, curve and encrypted key as one byte string."""
        nonce = os.urandom(_NONCE_BYTES)
        plain = _MARKS[key.curve] + key.to_bytes()
        return nonce + self._cipher.encrypt(nonce, plain, _context(did, role))

    def open(self, sealed: bytes, *, did: str, role: str) -> PrivateKey:
        """Return the key that `seal` was given. Raises VaultError."""
        nonce, box = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            plain = self._cipher.decrypt(nonce, box, _context(did, role))
        except InvalidTag as error:
            raise VaultError(f"the {role} key of {did} does not open") from error
        return PrivateKey.from_bytes(_CURVES[plain[:1]], plain[1:])


def _context(did: str, role: str) -> bytes:
    return f"{role} {did}".encode()
