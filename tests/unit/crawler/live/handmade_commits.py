"""Commits written by hand, so that a test can change each part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from crawler.live.rejections import drop_reason
from crawler.live.verify import verify_commit
from protocol.data import cbor
from protocol.data.cid import cid_for
from protocol.errors import ProtocolError
from protocol.events.drops import DropReason
from protocol.events.event import CommitEvent
from protocol.identity.keys import PrivateKey
from protocol.mst import Tree
from protocol.repo.car import car_block, car_header, read_car
from protocol.repo.commit import sign_commit
from protocol.syntax import Did, Tid, tid_from_int

NOW_US = 1_750_000_100_000_000
REV = tid_from_int(NOW_US << 10)
DID = Did("did:plc:" + "d" * 24)
KEY = PrivateKey("k256", b"\x04" * 32)
Body = dict[str, Any]


def record(text: str = "hello") -> bytes:
    return cbor.encode({"$type": "test.app.note", "text": text})


class Author:
    """Writes commits by hand, so that each part can be told to lie."""

    def __init__(self, count: int = 40, key: PrivateKey = KEY) -> None:
        self.key = key
        self.tree = Tree({}.get)
        self.values: dict[bytes, bytes] = {}
        for number in range(count):
            self.put(f"test.app.note/k{number:03}", record(str(number)))
        self.tree.root()

    def put(self, path: str, value: bytes) -> bytes | None:
        cid = cid_for(value)
        self.values[cid] = value
        return self.tree.put(path.encode(), cid)

    def commit(
        self, *changes: tuple[str, bytes | None], rev: Tid = REV, did: Did = DID
    ) -> Body:
        """Return the payload of a commit that puts values, or with None deletes."""
        prev_data = self.tree.root()
        ops: list[Body] = []
        records: dict[bytes, bytes] = {}
        for path, value in changes:
            if value is None:
                prev = self.tree.delete(path.encode())
                ops.append(
                    {"action": "delete", "path": path, "cid": None, "prev": prev}
                )
                continue
            cid = cid_for(value)
            prev = self.put(path, value)
            records[cid] = value
            op = {"action": "update" if prev else "create", "path": path, "cid": cid}
            ops.append(op if prev is None else {**op, "prev": prev})
        proof = self.tree.proof_blocks([path.encode() for path, _ in changes])
        signed = sign_commit(did, self.tree.root(), rev, self.key)
        return {
            "seq": 7,
            "repo": did,
            "rev": rev,
            "since": tid_from_int((NOW_US - 10) << 10),
            "commit": cid_for(signed),
            "blocks": car_of(signed, proof | records),
            "ops": ops,
            "prevData": prev_data,
        }


def car_of(signed: bytes, blocks: dict[bytes, bytes]) -> bytes:
    root = cid_for(signed)
    pieces = [car_header(root), car_block(root, signed)]
    return b"".join(pieces + [car_block(cid, raw) for cid, raw in blocks.items()])


def resigned(body: Body, change: Callable[[dict[str, Any]], None]) -> Body:
    """Return the message with its commit block changed and signed again."""
    car = read_car(body["blocks"])
    fields: Any = cbor.decode(car.blocks[car.root])
    del fields["sig"]
    change(fields)
    signed = cbor.encode({**fields, "sig": KEY.sign(cbor.encode(fields))})
    blocks = {cid: raw for cid, raw in car.blocks.items() if cid != car.root}
    return {**body, "commit": cid_for(signed), "blocks": car_of(signed, blocks)}


def verify(body: Body) -> CommitEvent:
    return verify_commit(body, KEY.public, NOW_US, host=3)


def reason_of(body: Body) -> DropReason:
    with pytest.raises(ProtocolError) as caught:
        verify(body)
    return drop_reason(caught.value)


LIE = cid_for(b"lie")
