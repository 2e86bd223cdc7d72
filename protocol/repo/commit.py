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

# The commit that nearly every repo has: a did:plc, no prev, no fields of others. In it
# only the named groups vary, so what matches is canonical.
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
# Key, head and 64 bytes of the signature.
_SIGNATURE_FIELD: Final = 4 + 2 + SIGNATURE_BYTES


# Not frozen: one is made for each commit, and freezing costs seven times as much.
@dataclass(slots=True)
class Commit:
    """`data` is the root of the tree; `prev`, mostly None, an older commit."""

    did: Did
    version: int
    data: bytes
    rev: Tid
    prev: bytes | None
    sig: bytes


def parse_commit(raw: bytes) -> Commit:
    """Read a signed commit block.

    Verifies: canonical CBOR, all six fields present and of the right type and form,
    version 3. Fields beyond those are let pass: they are signed, and not ours to judge.
    Does not verify: the signature, nor that the DID is the one expected.
    Raises InvalidEncodingError.
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
        raise InvalidEncodingError("a commit that is no map")
    if fields.get("version") != COMMIT_VERSION:
        raise InvalidEncodingError("a commit that is not of version 3")
    did = fields.get("did")
    if type(did) is not str or not is_did(did):
        raise InvalidEncodingError("a commit without a DID")
    rev = fields.get("rev")
    if type(rev) is not str or not is_tid(rev):
        raise InvalidEncodingError("a commit without a revision")
    root = fields.get("data")
    if type(root) is not Cid or not is_data_cid(root.raw):
        raise InvalidEncodingError("a commit without a tree")
    signature = fields.get("sig")
    if type(signature) is not bytes or len(signature) != SIGNATURE_BYTES:
        raise InvalidEncodingError("a commit without a signature of 64 bytes")
    prev = fields.get("prev", False)
    if prev is None:
        older = None
    elif type(prev) is Cid and is_data_cid(prev.raw):
        older = prev.raw
    else:
        raise InvalidEncodingError("a commit without a prev, which may be null")
    return Commit(Did(did), COMMIT_VERSION, root.raw, Tid(rev), older, signature)


def verify_commit_signature(
    raw: bytes, key: PublicKey, commit: Commit | None = None
) -> Commit:
    """Raise InvalidSignatureError unless `key` signed the commit block `raw`.

    Verifies the bytes as they came, with nothing but the signature taken out of them,
    so that fields unknown here are covered as well. `commit` is `parse_commit(raw)`,
    if that has been done already; returned is the same.
    """
    if commit is None:
        commit = parse_commit(raw)
    if not key.verify(commit.sig, _unsigned(raw, commit)):
        raise InvalidSignatureError("the commit is not signed by the key of its DID")
    return commit


@lru_cache(maxsize=4)
def latest_rev(now_us: int) -> Tid:
    """The highest revision that is not in the future; they sort as their times do."""
    return last_tid_at(now_us + MAX_REV_AHEAD_US)


def open_head(raw: bytes, did: Did, key: PublicKey | None, now_us: int) -> Commit:
    """The commit that a host gives as the head of a repo, which is to be taken over.

    Verifies: its form; that it is of `did`; that its revision is not in the future,
    for once taken it would shut out every commit until then; its signature if `key` is
    given. Raises InvalidEncodingError, LimitExceededError or InvalidSignatureError.
    """
    commit = parse_commit(raw)
    if commit.did != did:
        raise InvalidEncodingError("the repo is of another account")
    if commit.rev > latest_rev(now_us):
        raise LimitExceededError("the revision of the repo is in the future")
    if key is not None:
        verify_commit_signature(raw, key, commit)
    return commit


def sign_commit(
    did: Did, data: bytes, rev: Tid, key: PrivateKey, prev: bytes | None = None
) -> bytes:
    """The block of a new commit: signed, canonical."""
    unsigned: dict[str, cbor.Value] = {
        "did": did,
        "version": COMMIT_VERSION,
        "data": Cid(data),
        "rev": rev,
        "prev": None if prev is None else Cid(prev),
    }
    return cbor.encode({**unsigned, "sig": key.sign(cbor.encode(unsigned))})


def _unsigned(raw: bytes, commit: Commit) -> bytes:
    """The bytes that were signed: the block without its `sig` field.

    The block has been found canonical. With six fields they are the required ones, in
    the order did, rev, sig, data, prev, version. With more, encoding the rest again
    gives back its very bytes, since no value has two canonical forms.
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
