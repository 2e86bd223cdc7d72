"""Stored records -> rows of the tables records, links and posts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from operator import itemgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
from libipld import decode_dag_cbor, encode_multibase

from export.columns import (
    Ints,
    cid_texts,
    constant,
    fixed_texts,
    named,
    record_keys,
    tid_times,
)
from export.edges import MARK_OF, read_edges
from export.layout import LINKS, OTHER, PARTITIONS, POSTS, RECORDS, Table
from indexer.collections.post import Media, find_media
from indexer.collections.source import strings_of
from indexer.readings import read_record
from protocol.data import cbor
from protocol.data.cid import is_cid
from protocol.data.json_form import to_json
from storage.collections import COLLECTION_IDS, FEED_POST, PATHS
from storage.records.record_codec import decompress

_POST: Final = COLLECTION_IDS[FEED_POST]
_MAX_LANGS: Final = 3
_MOST_BYTES: Final = 16 * 1024**2
_TAG: Final = b"\xd8\x2a"
"""The start of a link in a record's bytes, which no text holds."""
_first_byte: Final = itemgetter(0)
_IMAGES, _VIDEO, _EXTERNAL = map(int, (Media.IMAGES, Media.VIDEO, Media.EXTERNAL))

Rows = tuple[Table, str, Any]
"""A table, its partition, and an Arrow table of rows."""


@dataclass(slots=True)
class StoredRecords:
    """Records by column; `stored` in their stored form.

    dids, nsids, rkeys: names of the numbers, of record keys only those that are no
    TIDs. broken: addresses of records without rows in the index.
    """

    actors: npt.NDArray[np.int32]
    collections: npt.NDArray[np.int32]
    keys: Ints
    stored: Sequence[bytes]
    dids: Mapping[int, str]
    nsids: Mapping[int, str]
    rkeys: Mapping[int, str]
    broken: frozenset[tuple[int, int, int]] = frozenset()

    def part(self, places: npt.NDArray[np.int64]) -> StoredRecords:
        """Return the records at these places."""
        return StoredRecords(
            self.actors[places],
            self.collections[places],
            self.keys[places],
            [self.stored[place] for place in places.tolist()],
            self.dids,
            self.nsids,
            self.rkeys,
            self.broken,
        )

    def tuples(self) -> Iterator[tuple[int, int, int]]:
        """Return the addresses."""
        return zip(
            self.actors.tolist(),
            self.collections.tolist(),
            self.keys.tolist(),
            strict=True,
        )

    def addresses(self, seq: int) -> dict[str, Any]:
        """Return the first columns of all tables."""
        return {
            "seq": constant(seq, len(self.keys)),
            "did": named(self.actors, self.dids),
            "nsid": named(self.collections, self.nsids),
            "rkey": record_keys(self.keys, self.rkeys),
        }


def make_tables(records: StoredRecords, seq: int) -> Iterator[Rows]:
    """Yield the rows of these records, with the number of their increment."""
    marks = np.fromiter(map(_first_byte, records.stored), np.uint8, len(records.keys))
    for collection in np.unique(records.collections).tolist():
        nsid = records.nsids[collection]
        partition = PARTITIONS.get(collection, OTHER)
        mine = records.collections == collection
        shaped = mine & (marks == MARK_OF.get(nsid, 0))
        if shaped.any():
            part = records.part(np.flatnonzero(shaped))
            yield from _edge_tables(part, nsid, partition, seq)
        rest = mine & ~shaped
        if rest.any():
            part = records.part(np.flatnonzero(rest))
            yield from _plain_tables(part, nsid, partition, seq)


def _edge_tables(
    records: StoredRecords, nsid: str, partition: str, seq: int
) -> Iterator[Rows]:
    edges = read_edges(nsid, records.stored)
    address = records.addresses(seq)
    rows = len(records.keys)
    yield (
        RECORDS,
        partition,
        pa.table(
            {
                **address,
                "cid": cid_texts(edges.digests),
                "time_us": tid_times(records.keys),
                "record": fixed_texts(edges.json),
            }
        ),
    )
    target_rkeys = edges.target_rkeys
    links = {
        **address,
        "path": _repeated(edges.path, rows),
        "target_did": fixed_texts(edges.target_dids),
        "target_nsid": _repeated(edges.target_nsid, rows),
        "target_rkey": pa.nulls(rows, pa.string())
        if target_rkeys is None
        else fixed_texts(target_rkeys),
    }
    yield LINKS, "", pa.table(links)


def _repeated(text: str | None, rows: int) -> Any:
    places = pa.array(np.zeros(rows, np.int32))
    return pa.DictionaryArray.from_arrays(places, pa.array([text], pa.string()))


@dataclass(slots=True)
class _Read:
    """Values of records that were read one by one; places count from the first."""

    start: int = 0
    size: int = 0
    digests: list[bytes] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)
    link_places: list[int] = field(default_factory=list)
    links: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    post_places: list[int] = field(default_factory=list)
    posts: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, nsid: str, value: bytes, *, broken: bool) -> None:
        """Read the next record."""
        place = len(self.digests)
        self.digests.append(sha256(value).digest())
        # Verified when it came: the checks of protocol.data.cbor are not repeated.
        fields = decode_dag_cbor(value)
        text = _json(value, fields)
        self.texts.append(text)
        self.size += len(text)
        if broken:
            return
        reading = read_record(nsid, value, fields)
        for path, did, target_nsid, rkey in reading.links:
            # Web addresses have no DID: they are in the record itself.
            if did:
                name = path if type(path) is str else PATHS[path][1]  # type: ignore[index]
                self.link_places.append(place)
                self.links.append((name, did, target_nsid, rkey))  # type: ignore[arg-type]
        if nsid == FEED_POST and reading.error is None:
            self.post_places.append(place)
            self.posts.append(_post_row(fields))

    def tables(self, base: Any, times: Any, partition: str) -> Iterator[Rows]:
        """Yield the rows; `base` and `times` are columns of all records."""
        rows = len(self.digests)
        base, times = base.slice(self.start, rows), times.slice(self.start, rows)
        texts = pa.array(self.texts, pa.binary()).cast(pa.string())
        yield (
            RECORDS,
            partition,
            base.append_column("cid", cid_texts(self.digests))
            .append_column("time_us", times)
            .append_column("record", texts),
        )
        if self.links:
            yield LINKS, "", _beside(base, LINKS, self.link_places, self.links)
        if self.posts:
            yield POSTS, "", _beside(base, POSTS, self.post_places, self.posts)


def _beside(
    base: Any, table: Table, places: list[int], rows: Sequence[tuple[Any, ...]]
) -> Any:
    """Return rows with the addresses of the records at `places`."""
    found = base.take(pa.array(places, pa.int64()))
    columns = zip(*rows, strict=True)
    for kind, values in zip(list(table.schema)[4:], columns, strict=True):
        found = found.append_column(kind.name, pa.array(values, kind.type))
    return found


def _plain_tables(
    records: StoredRecords, nsid: str, partition: str, seq: int
) -> Iterator[Rows]:
    base = pa.table(records.addresses(seq))
    times = tid_times(records.keys)
    broken: set[int] = set()
    if records.broken:
        places = enumerate(records.tuples())
        broken = {place for place, address in places if address in records.broken}
    read = _Read()
    for place, stored in enumerate(records.stored):
        read.add(nsid, decompress(stored), broken=place in broken)
        # A few kilobytes may unpack to megabytes.
        if read.size > _MOST_BYTES:
            yield from read.tables(base, times, partition)
            read = _Read(place + 1)
    if read.digests:
        yield from read.tables(base, times, partition)


def _json(value: bytes, fields: Any) -> bytes:
    """Return the JSON of a record; `fields` has links and bytes as bytes."""
    try:
        return orjson.dumps(fields)
    except TypeError:
        pass
    seen: list[bytes] = []

    def link(item: Any) -> Any:
        if type(item) is not bytes or not is_cid(item) or _TAG in item:
            raise TypeError
        seen.append(item)
        return {"$link": encode_multibase("b", item)}

    try:
        text = orjson.dumps(fields, default=link)
        if len(seen) == value.count(_TAG):
            return text
    except TypeError:
        pass
    return orjson.dumps(to_json(cbor.decode(value)))


def _post_row(fields: Mapping[str, Any]) -> tuple[Any, ...]:
    embed = fields.get("embed")
    media = int(find_media(embed)) if embed is not None else 0
    reply = fields.get("reply")
    return (
        _text(fields.get("text")),
        strings_of(fields.get("langs"))[:_MAX_LANGS],
        _text(fields.get("createdAt")),
        None if reply is None else _uri(reply, "parent"),
        None if reply is None else _uri(reply, "root"),
        None if embed is None else _quote(embed),
        media & _IMAGES != 0,
        media & _VIDEO != 0,
        media & _EXTERNAL != 0,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _uri(value: Any, name: str) -> str | None:
    reference = value.get(name) if isinstance(value, dict) else None
    return _text(reference.get("uri")) if isinstance(reference, dict) else None


def _quote(embed: Any) -> str | None:
    """Return the URI of the record in an embed, or in the record of an embed."""
    found = _uri(embed, "record")
    if found is None and isinstance(embed, dict):
        found = _uri(embed.get("record"), "record")
    return found
