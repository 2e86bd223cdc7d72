"""A repo on its way into the index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from crawler.repos.repo_import import SMALL_RECORDS, StreamedImport
from protocol.data.cid import BLOB_PREFIX, cid_for
from protocol.events.event import DroppedOp
from protocol.identity.keys import PrivateKey
from protocol.mst import build_nodes
from protocol.repo.car import car_block, car_header
from protocol.repo.commit import sign_commit
from protocol.syntax import Did, Tid

KEY = PrivateKey("k256", b"\x05" * 32)
DID = Did("did:plc:" + "g" * 24)


class Taken:
    """A sink that counts."""

    def __init__(self) -> None:
        self.drops: list[int] = []

    @contextmanager
    def checkout(self, *_: Any) -> Iterator[Taken]:
        yield self

    def add(self, records: Sequence[Any]) -> None:
        assert not records

    def drop(self, drops: Sequence[DroppedOp]) -> None:
        self.drops.append(len(drops))

    def finish(self, head: Any) -> None:
        pass


def test_import_bounds_dropped_records() -> None:
    """A repo may hold nothing else, by the million."""
    blob = BLOB_PREFIX + cid_for(b"")[4:]
    nodes = list(build_nodes((b"a.b.c/%07d" % n, blob) for n in range(20_000)))
    signed = sign_commit(DID, nodes[-1].cid, Tid("3jzfcijpj2z2a"), KEY)
    sink = Taken()
    job = StreamedImport(sink, DID, 1, KEY.public, spill=False)  # type: ignore[arg-type]
    job.feed(car_header(cid_for(signed)) + car_block(cid_for(signed), signed))
    for node in reversed(nodes):
        job.feed(car_block(node.cid, node.raw))
    assert job.finish(b"") is None
    job.close()
    assert sum(sink.drops) == 20_000
    assert max(sink.drops) < SMALL_RECORDS + 300
