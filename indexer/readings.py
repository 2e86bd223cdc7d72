"""Records read for indexing, before their names have ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from indexer.collections.registry import collection_for
from indexer.collections.source import Collection, Names, Value
from indexer.links import Link, may_link
from protocol.data import cbor
from protocol.errors import InvalidRecordError, ProtocolError
from storage.postgres.text import clean_text
from storage.records.edge_batch import Edges, read_edges
from storage.records.interning import Interner
from storage.records.record_shapes import Shape

_MAX_REASON_CHARS: Final = 300


class Reading(NamedTuple):
    """A record that was read: its links, and the error if no rows can be made. `value`
    is None after `let_go`."""

    collection: Collection
    value: Value | None
    links: Sequence[Link]
    error: str | None

    def let_go(self) -> Reading:
        """Return the reading without its value, which is decoded again when needed."""
        return self._replace(value=None)


class NameSets:
    """Names in the links of a batch."""

    def __init__(self) -> None:
        self._dids: set[str] = set()
        self._nsids: set[str] = set()
        self._rkeys: set[str] = set()
        self._paths: set[tuple[int, str]] = set()

    def add(self, collection: int, links: Sequence[Link]) -> None:
        """Add the names in links of a record of a collection."""
        for path, did, nsid, rkey in links:
            if did:
                self._dids.add(did)
            if nsid is not None:
                self._nsids.add(nsid)
                if rkey is not None:
                    self._rkeys.add(rkey)  # type: ignore[arg-type]
            if type(path) is str:
                self._paths.add((collection, path))

    def add_dids(self, dids: Iterable[str]) -> None:
        """Add the targets of records that are one edge each."""
        self._dids.update(dids)

    def intern(self, interner: Interner) -> tuple[Names, dict[tuple[int, str], int]]:
        """Return the ids of all names, and of all (collection, path)."""
        names = Names(
            interner.actors(self._dids),
            interner.collections(self._nsids),
            interner.rkeys(self._rkeys),
        )
        return names, interner.paths(self._paths) if self._paths else {}


def read_shaped(
    shape: Shape, values: Sequence[bytes]
) -> Iterator[tuple[slice, Edges | None]]:
    """Yield (slice, columns) of records that have the size of a shape.

    The columns are None for a record that has only the size.
    """
    columns = read_edges(shape, values)
    if columns is not None or len(values) == 1:
        yield slice(0, len(values)), columns
        return
    for index, value in enumerate(values):
        yield slice(index, index + 1), read_edges(shape, [value])


def read_record(nsid: str, raw: bytes, fields: Any) -> Reading:
    """Read a record of a collection; `fields` is its `cbor.decode_fast`, if done
    already."""
    collection = collection_for(nsid)
    try:
        value = cbor.decode_fast(raw) if fields is None else fields
        if not isinstance(value, dict):
            raise InvalidRecordError("", "not a map")
        if nsid == collection.nsid and value.get("$type") != nsid:
            raise InvalidRecordError("$type", "not the collection it is in")
        links = collection.find_links(value) if may_link(raw) else ()
        return Reading(collection, value, links, None)
    except ProtocolError as error:
        return Reading(collection, None, (), reason_of(error))


def reason_of(error: ProtocolError) -> str:
    """Return the stored reason why a record has no rows."""
    return clean_text(str(error), _MAX_REASON_CHARS)
