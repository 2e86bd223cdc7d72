"""The shared test data of the protocol: signatures, trees, proofs of commits."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from protocol.data.cid import cid_from_text, cid_to_text
from protocol.identity.keys import PrivateKey, parse_did_key, parse_legacy_multibase
from protocol.mst import Tree, TreeOp, build_root, height, invert, shared_prefix
from protocol.mst.ranges import read_part

VECTORS = os.environ.get("ATPROTO_VECTORS")
pytestmark = pytest.mark.skipif(not VECTORS, reason="ATPROTO_VECTORS is not set")


def load(path: str) -> Any:
    return json.loads((Path(VECTORS or "") / path).read_text())


def cases(path: str) -> list[Any]:
    return load(path) if VECTORS else []


def unpadded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("case", cases("crypto/signature-fixtures.json"))
def test_signature(case: dict[str, Any]) -> None:
    key = parse_did_key(case["publicKeyDid"])
    assert key.did_key == case["publicKeyDid"]
    assert parse_legacy_multibase(key.curve, case["publicKeyMultibase"]) == key
    verdict = key.verify(
        unpadded(case["signatureBase64"]), unpadded(case["messageBase64"])
    )
    assert verdict == case["validSignature"]


@pytest.mark.parametrize("case", cases("crypto/w3c_didkey_K256.json"))
def test_k256_did_key(case: dict[str, str]) -> None:
    secret = bytes.fromhex(case["privateKeyBytesHex"])
    assert PrivateKey("k256", secret).public.did_key == case["publicDidKey"]


@pytest.mark.parametrize("case", cases("crypto/w3c_didkey_P256.json"))
def test_p256_did_key(case: dict[str, str]) -> None:
    text = case["privateKeyBytesBase58"]
    number = 0
    for char in text:
        alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
        number = number * 58 + alphabet.index(char)
    key = PrivateKey("p256", number.to_bytes(32, "big"))
    assert key.public.did_key == case["publicDidKey"]


@pytest.mark.parametrize("case", cases("mst/key_heights.json"))
def test_height(case: dict[str, Any]) -> None:
    assert height(case["key"].encode()) == case["height"]


@pytest.mark.parametrize("case", cases("mst/common_prefix.json"))
def test_shared_prefix(case: dict[str, Any]) -> None:
    assert shared_prefix(case["left"].encode(), case["right"].encode()) == case["len"]


def test_example_keys_have_the_heights_of_their_names() -> None:
    keys = (Path(VECTORS or "") / "mst/example_keys.txt").read_text().split()
    assert len(keys) == 156
    for key in keys:
        assert height(key.encode()) == int(key[1])


@pytest.mark.parametrize("case", cases("firehose/commit-proof-fixtures.json"))
def test_commit_proof(case: dict[str, Any]) -> None:
    value = cid_from_text(case["leafValue"])
    items = [(key.encode(), value) for key in sorted(case["keys"])]
    before = build_root(items)
    assert cid_to_text(before) == case["rootBeforeCommit"]
    tree = Tree({}.get)
    for key, cid in items:
        tree.put(key, cid)
    assert tree.root() == before
    ops = [TreeOp(key.encode(), value, None) for key in case["adds"]]
    ops += [TreeOp(key.encode(), None, value) for key in case["dels"]]
    for op in ops:
        if op.cid is None:
            assert tree.delete(op.key) == value
        else:
            assert tree.put(op.key, value) is None
    after = tree.root()
    assert cid_to_text(after) == case["rootAfterCommit"]
    proof = tree.proof_blocks(op.key for op in ops)
    assert {cid_to_text(cid) for cid in proof} == set(case["blocksInProof"])
    assert invert(proof, after, ops) == before
    assert invert(proof, after, ops, before) == before
    for op in ops:
        assert Tree(proof.get, after).get(op.key) == op.cid
    part = read_part(tree.new_blocks().get, after)
    assert not part.missing
    count = len(case["keys"]) + len(case["adds"]) - len(case["dels"])
    assert len(part.found) == count
