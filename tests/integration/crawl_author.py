"""Accounts that write signed commits, stream frames and whole repos."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

from minimal_proof import minimal_proof

from protocol.data import cbor
from protocol.data.cid import Cid, cid_for
from protocol.events.frames import encode_frame
from protocol.identity.keys import PrivateKey
from protocol.mst import EMPTY_ROOT, Tree, TreeOp, build_nodes
from protocol.repo.car import car_block, car_header
from protocol.repo.commit import sign_commit
from protocol.syntax.did import Did
from protocol.syntax.tid import Tid, TidClock, tid_from_int

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
# Microseconds of 2026-01-01; the simulated clock goes on from here.
EPOCH_US = 1_767_225_600_000_000

Op = tuple[str, str, Any]
"""(action, path, record value or None)."""


class Author:
    """One account. `write` makes a commit, `frame` puts the last one on a stream.

    `minimal` commits bring the fewest nodes that undo them.
    """

    minimal = False

    def __init__(self, number: int, curve: str = "k256", seed: int = 0) -> None:
        draw = random.Random(seed * 1_000_003 + number)
        self.did = Did("did:plc:" + "".join(draw.choices(_ALPHABET, k=24)))
        self.key = PrivateKey.from_bytes(curve, draw.randbytes(32))  # type: ignore[arg-type]
        self.records: dict[str, bytes] = {}
        self.nodes: dict[bytes, bytes] = {}
        self.data = EMPTY_ROOT
        self.rev: Tid | None = None
        self.commit = b""
        self.now_us = EPOCH_US + number
        self._clock = TidClock(number % 1_024, self._tick)
        self._body: dict[str, Any] = {}

    def _tick(self) -> int:
        self.now_us += 1_000
        return self.now_us

    @property
    def did_key(self) -> str:
        return self.key.public.did_key

    def new_rkey(self) -> str:
        return tid_from_int(self._tick() << 10)

    def write(self, ops: Sequence[Op]) -> None:
        """Commit operations; values are encoded by `cbor.encode`."""
        since, prev_data = self.rev, self.data
        tree = Tree(self.nodes.get, self.data)
        listed: list[dict[str, Any]] = []
        undone: list[TreeOp] = []
        values: dict[bytes, bytes] = {}
        for action, path, value in ops:
            key = path.encode()
            prev = tree.get(key)
            op: dict[str, Any] = {"action": action, "path": path, "cid": None}
            if action == "delete":
                tree.delete(key)
                del self.records[path]
            else:
                raw = cbor.encode(value)
                cid = cid_for(raw)
                tree.put(key, cid)
                values[cid] = raw
                self.records[path] = raw
                op["cid"] = Cid(cid)
            if prev is not None:
                op["prev"] = Cid(prev)
            listed.append(op)
            undone.append(TreeOp(key, tree.get(key), prev))
        self.data = tree.root()
        fresh = tree.new_blocks()
        self.nodes |= fresh
        proof = tree.proof_blocks(path.encode() for _, path, _ in ops)
        if self.minimal:
            proof = minimal_proof(self.nodes.get, self.data, undone)
            fresh = {}
        self.rev = self._clock.next(after=since)
        self.commit = sign_commit(self.did, self.data, self.rev, self.key)
        blocks = {cid_for(self.commit): self.commit} | fresh | proof | values
        self._body = {
            "rebase": False,
            "tooBig": False,
            "repo": self.did,
            "commit": Cid(cid_for(self.commit)),
            "rev": self.rev,
            "since": since,
            "blocks": _car(cid_for(self.commit), blocks.items()),
            "ops": listed,
            "blobs": [],
            "time": "2026-01-01T00:00:00.000Z",
            "prevData": Cid(prev_data),
        }

    def frame(self, seq: int, **changes: Any) -> bytes:
        """Return the last commit as a frame; `changes` replace fields of its body."""
        return encode_frame("#commit", self._body | {"seq": seq} | changes)

    def sync_frame(self, seq: int) -> bytes:
        assert self.rev is not None
        cid = cid_for(self.commit)
        return encode_frame(
            "#sync",
            {
                "seq": seq,
                "did": self.did,
                "rev": self.rev,
                "blocks": _car(cid, [(cid, self.commit)]),
                "time": "2026-01-01T00:00:00.000Z",
            },
        )

    def repo(self) -> bytes:
        """Return the whole repo as a CAR file, in pre-order."""
        items = sorted(
            (path.encode(), cid_for(raw)) for path, raw in self.records.items()
        )
        blocks = {cid_for(self.commit): self.commit}
        blocks |= {node.cid: node.raw for node in build_nodes(items)}
        values = {cid_for(raw): raw for raw in self.records.values()}
        return _car(cid_for(self.commit), (blocks | values).items())


def identity_frame(did: str, seq: int, handle: str | None = None) -> bytes:
    body: dict[str, Any] = {"seq": seq, "did": did, "time": "2026-01-01T00:00:00Z"}
    if handle is not None:
        body["handle"] = handle
    return encode_frame("#identity", body)


def account_frame(did: str, seq: int, active: bool, status: str | None = None) -> bytes:
    body: dict[str, Any] = {
        "seq": seq,
        "did": did,
        "time": "2026-01-01T00:00:00Z",
        "active": active,
    }
    if status is not None:
        body["status"] = status
    return encode_frame("#account", body)


def post(text: str) -> dict[str, Any]:
    return {
        "$type": "app.bsky.feed.post",
        "text": text,
        "createdAt": "2026-01-01T00:00:00.000Z",
    }


def _car(root: bytes, blocks: Iterable[tuple[bytes, bytes]]) -> bytes:
    return car_header(root) + b"".join(car_block(cid, raw) for cid, raw in blocks)
