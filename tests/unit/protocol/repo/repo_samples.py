"""Sample repos and their CARs."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from protocol.data import cbor
from protocol.data.cid import cid_for
from protocol.identity.keys import PrivateKey
from protocol.mst import build_root
from protocol.repo.car import car_block, car_header, read_car
from protocol.repo.commit import sign_commit
from protocol.repo.repo_export import export_repo
from protocol.repo.whole_repo import RepoHead, RepoReader, RepoRecord
from protocol.syntax import Did, Tid

KEY = PrivateKey("k256", b"\x06" * 32)
DID = Did("did:plc:" + "f" * 24)
REV = Tid("3jzfcijpj2z2a")
NOW_US = 4_000_000_000_000_000
Item = tuple[bytes, bytes, bytes]


def item(path: str, text: str = "") -> Item:
    value = cbor.encode({"$type": "test.app.note", "text": text or path})
    return path.encode(), cid_for(value), value


def items_of(count: int, *, texts: int = 10**9) -> list[Item]:
    """Return records of a repo; with few `texts`, many have the same bytes."""
    rng = random.Random(count)
    paths = {f"test.app.note/{rng.randrange(10**12):012}" for _ in range(count)}
    return [item(path, f"text {rng.randrange(texts)}") for path in sorted(paths)]


def sign(items: Iterable[Item], key: PrivateKey = KEY) -> bytes:
    return sign_commit(DID, build_root((key, cid) for key, cid, _ in items), REV, key)


def export(items: Sequence[Item]) -> bytes:
    return b"".join(export_repo(sign(items), lambda: items))


def read(
    car: bytes, piece: int = 4_096, reader: RepoReader | None = None
) -> tuple[list[Item], RepoHead]:
    reader = reader or RepoReader(KEY.public, DID, NOW_US)
    records: list[RepoRecord] = []
    for start in range(0, len(car), piece):
        records += reader.feed(car[start : start + piece])
    head = reader.finish()
    return sorted(
        (f"{one.collection}/{one.rkey}".encode(), one.cid, one.value) for one in records
    ), head


def blocks_of(car: bytes) -> list[tuple[bytes, bytes]]:
    return list(read_car(car).blocks.items())


def car_of(blocks: Iterable[tuple[bytes, bytes]], root: bytes) -> bytes:
    return car_header(root) + b"".join(car_block(*block) for block in blocks)


def deduplicated(items: Sequence[Item]) -> bytes:
    """Return the export with each block once, at the place of its first key."""
    car = export(items)
    return car_of(blocks_of(car), read_car(car).root)


def is_node(block: tuple[bytes, bytes]) -> bool:
    return block[1].startswith(b"\xa2ae")


def shared_items(count: int, size: int) -> list[Item]:
    """Return records that all have the same bytes."""
    value = cbor.encode({"$type": "test.app.note", "text": "x" * size})
    keys = (f"test.app.note/{n:05}".encode() for n in range(count))
    return [(key, cid_for(value), value) for key in keys]


def big_items(count: int) -> list[Item]:
    """Return records of 20 kB, with the first repeated at the end."""
    filler = "x" * 20_000
    items = [item(f"test.app.note/{n:05}", f"{n} {filler}") for n in range(count)]
    again = (b"test.app.note/99999", items[0][1], items[0][2])
    return [*items, again]
