"""The signed commit of a repo, version 3 (specs/repository)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from protocol.data import cbor
from protocol.data.cid import Cid, is_data_cid
from protocol.errors import (
    InvalidEncodingError,
    InvalidSignatureError,
    LimitExceededError,
)
from protocol.identity.keys import SIGNATURE_BYTES, PrivateKey, PublicKey
from protocol.limits import MAX_REV_AHEAD_US
from protocol.syntax.did import Did, is_did
from protocol.syntax.tid import Tid, is_tid, last_tid_at

COMMIT_VERSION: Final = 3

# The usual commit: a did:plc, no prev, no other fields. Only the named groups vary, so
# a match is canonical.
_PLAIN: Final = re.compile(
    rb"\xa6cdidx (?P<did>did:plc:[a-z2-7]{24})"
    rb"crevm(?P<rev>[2-7a-j][2-7a-z]{12})"
    rb"csigX@(?P<sig>.{64})"
    rb"ddata\xd8\x2aX%\x00(?P<data>\x01\x71\x12\x20.{32})"
    rb"dprev\xf6gversion\x03",
    re.DOTALL,
)
_SIX_FIELDS: Final = 0xA6
_FIVE_FIELDS: Final = b"\xa5"
_SIGNATURE_FIELD: Final = 4 + 2 + SIGNATURE_BYTES


# Not frozen: freezing makes construction seven times slower.
@dataclass(slots=True)
class Commit:
    """A parsed commit; `data` is the root of the tree, `prev` an older commit."""

    did: Did
    version: int
    data: bytes
    rev: Tid
    prev: bytes | None
    sig: bytes


def parse_commit(raw: bytes) -> Commit:
    """Parse a signed commit block; does not verify the signature.

    Unknown fields are accepted, since the signature covers them. Raises
    InvalidEncodingError unless the block is canonical CBOR of version 3 with all six
    fields.
    """
    plain = _PLAIN.fullmatch(raw)
    if plain is not None:
        plain_did, plain_rev, sig, data = plain.groups()
        return Commit(
            Did(plain_did.decode()),
            COMMIT_VERSION,
            data,
            Tid(plain_rev.decode()),
            None,
            sig,
        )
    fields = cbor.decode(raw)
    if type(fields) is not dict:
        raise InvalidEncodingError("commit is not a map")
    if fields.get("version") != COMMIT_VERSION:
        raise InvalidEncodingError("commit is not of version 3")
    did = fields.get("did")
    if type(did) is not str or not is_did(did):
        raise InvalidEncodingError("commit has no DID")
    rev = fields.get("rev")
    if type(rev) is not str or not is_tid(rev):
        raise InvalidEncodingError("commit has no revision")
    root = fields.get("data")
    if type(root) is not Cid or not is_data_cid(root.raw):
        raise InvalidEncodingError("commit has no tree")
    signature = fields.get("sig")
    if type(signature) is not bytes or len(signature) != SIGNATURE_BYTES:
        raise InvalidEncodingError("commit has no signature of 64 bytes")
    prev = fields.get("prev", False)
    if prev is None:
        older = None
    elif type(prev) is Cid and is_data_cid(prev.raw):
        older = prev.raw
    else:
        raise InvalidEncodingError("commit has no prev, not even null")
    return Commit(Did(did), COMMIT_VERSION, root.raw, Tid(rev), older, signature)


def verify_commit_signature(
    raw: bytes, key: PublicKey, commit: Commit | None = None
) -> Commit:
    """Return the commit; raise InvalidSignatureError unless `key` signed it.

    The signature covers the bytes of the block `raw`, including unknown fields.
    `commit` is `parse_commit(raw)`, if already known.
    """
    if commit is None:
        commit = parse_commit(raw)
    if not key.verify(commit.sig, _unsigned(raw, commit)):
        raise InvalidSignatureError("commit is not signed by the key of its DID")
    return commit


@lru_cache(maxsize=4)
def latest_rev(now_us: int) -> Tid:
    """Return the highest revision that is not in the future."""
    return last_tid_at(now_us + MAX_REV_AHEAD_US)


def open_head(raw: bytes, did: Did, key: PublicKey | None, now_us: int) -> Commit:
    """Parse and check the commit that a host sends as the head of a repo.

    Verifies the form, the account, and the signature if `key` is given. The revision
    must not be in the future, since every later commit must exceed it. Raises
    InvalidEncodingError, LimitExceededError or InvalidSignatureError.
    """
    commit = parse_commit(raw)
    if commit.did != did:
        raise InvalidEncodingError("repo belongs to another account")
    if commit.rev > latest_rev(now_us):
        raise LimitExceededError("revision of the repo is in the future")
    if key is not None:
        verify_commit_signature(raw, key, commit)
    return commit


def sign_commit(
    did: Did, data: bytes, rev: Tid, key: PrivateKey, prev: bytes | None = None
) -> bytes:
    """Return the block of a new commit: canonical and signed."""
    unsigned: dict[str, cbor.Value] = {
        "did": did,
        "version": COMMIT_VERSION,
        "data": Cid(data),
        "rev": rev,
        "prev": None if prev is None else Cid(prev),
    }
    return cbor.encode({**unsigned, "sig": key.sign(cbor.encode(unsigned))})


def _unsigned(raw: bytes, commit: Commit) -> bytes:
    """Return the signed bytes: the canonical block without its `sig` field.

    With six fields these are the required ones, in the order did, rev, sig, data, prev,
    version. With more, re-encoding the rest gives the same bytes.
    """
    if raw[0] == _SIX_FIELDS:
        size = len(commit.did)
        did_head = 1 if size < 24 else 2 if size < 256 else 3
        start = 1 + 4 + did_head + size + 4 + 1 + len(commit.rev)
        return _FIVE_FIELDS + raw[1:start] + raw[start + _SIGNATURE_FIELD :]
    fields = cbor.decode(raw)
    assert type(fields) is dict
    del fields["sig"]
    return cbor.encode(fields)
