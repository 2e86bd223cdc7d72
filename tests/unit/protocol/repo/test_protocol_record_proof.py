from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repo_samples import DID, KEY, NOW_US, REV, Item, items_of, sign

from protocol.data.cid import cid_for
from protocol.errors import (
    InvalidEncodingError,
    InvalidSignatureError,
    LimitExceededError,
    MissingBlockError,
    ProtocolError,
)
from protocol.identity.keys import PrivateKey
from protocol.mst import Tree, build_nodes
from protocol.repo.car import car_block, car_header
from protocol.repo.commit import parse_commit
from protocol.repo.record_proof import RecordProof, verify_record_proof
from protocol.syntax import Did

ITEMS = items_of(400)
PATH, CID, VALUE = ITEMS[123]
ABSENT = "test.app.note/zzzz"


def proof_of(
    path: str, items: Sequence[Item] = ITEMS, key: PrivateKey = KEY
) -> tuple[bytes, dict[bytes, bytes]]:
    """Return the commit, and the blocks that prove a record or its absence."""
    nodes = {node.cid: node.raw for node in build_nodes((k, c) for k, c, _ in items)}
    commit = sign(items, key)
    used: dict[bytes, bytes] = {}

    def read(cid: bytes) -> bytes | None:
        used[cid] = nodes[cid]
        return nodes[cid]

    found = Tree(read, parse_commit(commit).data).get(path.encode())
    used |= {cid: value for _, cid, value in items if cid == found}
    return commit, used


def car_of(commit: bytes, blocks: dict[bytes, bytes]) -> bytes:
    root = cid_for(commit)
    parts = [car_header(root), car_block(root, commit)]
    return b"".join(parts + [car_block(*block) for block in blocks.items()])


def verify(car: bytes, path: str = PATH.decode(), did: Did = DID) -> RecordProof:
    return verify_record_proof(car, did, path, KEY.public, NOW_US)


def test_proof_of_a_record_is_verified() -> None:
    commit, blocks = proof_of(PATH.decode())
    proof = verify(car_of(commit, blocks))
    assert (proof.cid, proof.value, proof.rev) == (CID, VALUE, REV)
    assert (proof.commit, proof.nodes) == (cid_for(commit), len(blocks) - 1)


def test_absence_is_proved() -> None:
    proof = verify(car_of(*proof_of(ABSENT)), ABSENT)
    assert (proof.cid, proof.value) == (None, None)


def test_every_block_of_a_proof_is_needed() -> None:
    commit, blocks = proof_of(PATH.decode())
    assert len(blocks) > 2
    for left_out in blocks:
        rest = {cid: raw for cid, raw in blocks.items() if cid != left_out}
        with pytest.raises(MissingBlockError):
            verify(car_of(commit, rest))


def test_proof_of_another_path_proves_nothing() -> None:
    with pytest.raises(MissingBlockError):
        verify(car_of(*proof_of(PATH.decode())), ITEMS[-1][0].decode())


def test_proof_signed_by_another_key_or_for_another_account_is_refused() -> None:
    other = PrivateKey("k256", b"\x07" * 32)
    car = car_of(*proof_of(PATH.decode(), key=other))
    with pytest.raises(InvalidSignatureError):
        verify(car)
    with pytest.raises(InvalidEncodingError):
        verify(car_of(*proof_of(PATH.decode())), did=Did("did:plc:" + "g" * 24))


def test_proof_from_the_future_is_refused() -> None:
    with pytest.raises(LimitExceededError):
        verify_record_proof(
            car_of(*proof_of(PATH.decode())), DID, PATH.decode(), KEY.public, 0
        )


@settings(max_examples=150)
@given(st.data())
def test_changed_proof_never_proves_other_bytes(data: st.DataObject) -> None:
    car = bytearray(car_of(*proof_of(PATH.decode())))
    place = data.draw(st.integers(0, len(car) - 1))
    car[place] ^= data.draw(st.integers(1, 255))
    try:
        proof = verify(bytes(car))
    except ProtocolError:
        return
    assert (proof.cid, proof.value) == (CID, VALUE)
