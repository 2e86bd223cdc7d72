"""Encryption of private state at rest: a key for each account, from one secret.

The database holds neither DIDs nor subjects. Rows are found by keyed hashes.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ACCOUNT_BYTES: Final = 16
_SUBJECT_BYTES: Final = 8
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32


class DamagedItemError(Exception):
    """A private item was not encrypted with this account's key, or was changed."""


@dataclass(frozen=True)
class Account:
    """The keys of one account. `id` is its name in the database.

    The keys follow from the secret and `id`, so rows of an account can be read without
    its DID, which is empty then.
    """

    id: bytes
    secret: bytes
    did: str = ""

    def __repr__(self) -> str:
        return f"Account({self.id.hex()})"

    def subject(self, text: str) -> int:
        """Return the keyed hash by which an item of this account is found."""
        digest = hmac.digest(self._subject_key, text.encode(), "sha256")
        return int.from_bytes(digest[:_SUBJECT_BYTES], "big", signed=True)

    def seal(self, kind: int, subject: int, value: Any) -> bytes:
        """Encrypt a JSON value for one row, which it cannot leave."""
        nonce = os.urandom(_NONCE_BYTES)
        place = self._place(kind, subject)
        return nonce + self._cipher.encrypt(nonce, orjson.dumps(value), place)

    def open(self, kind: int, subject: int, sealed: bytes) -> Any:
        """Decrypt a row. Raises DamagedItemError."""
        nonce, content = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            plain = self._cipher.decrypt(nonce, content, self._place(kind, subject))
        except (InvalidTag, ValueError) as error:
            raise DamagedItemError("a private item cannot be decrypted") from error
        return orjson.loads(plain)

    def _place(self, kind: int, subject: int) -> bytes:
        return b"%s %d %d" % (self.id, kind, subject)

    @cached_property
    def _cipher(self) -> AESGCM:
        return AESGCM(_derive(self.secret, b"items of " + self.id))

    @cached_property
    def _subject_key(self) -> bytes:
        return _derive(self.secret, b"subjects of " + self.id)


class Vault:
    """The keys of all accounts, from one secret of 32 bytes."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != _KEY_BYTES:
            raise ValueError("the secret of private state needs 32 bytes")
        self._secret = secret
        self._account_key = _derive(secret, b"accounts")

    def account(self, did: str) -> Account:
        """Return the keys of the account with a DID."""
        digest = hmac.digest(self._account_key, did.encode(), "sha256")
        return Account(digest[:ACCOUNT_BYTES], self._secret, did)

    def account_by_id(self, number: bytes) -> Account:
        """Return the keys of an account by its name in the database."""
        return Account(number, self._secret)


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), _KEY_BYTES, None, b"bigworld private " + purpose).derive(
        secret
    )
