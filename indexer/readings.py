"""Records read for indexing: what their bytes hold, before any name has a number."""

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
    """A record's bytes, read: its links, and why no rows can be made of it, if so. Else
    `value` is what they are made of, None where that was let go."""

    module: Collection
    value: Value | None
    links: Sequence[Link]
    error: str | None

    def let_go(self) -> Reading:
        """The same without the value: to be decoded again."""
        return self._replace(value=None)


class NameSets:
    """Names that the links of a batch hold."""

    def __init__(self) -> None:
        self._dids: set[str] = set()
        self._nsids: set[str] = set()
        self._rkeys: set[str] = set()
        self._paths: set[tuple[int, str]] = set()

    def add(self, collection: int, links: Sequence[Link]) -> None:
        """Take in those of a record of a collection."""
        for path, did, nsid, rkey in links:
            self._dids.add(did)
            if nsid is not None:
                self._nsids.add(nsid)
                if rkey is not None:
                    self._rkeys.add(rkey)
            if type(path) is str:
                self._paths.add((collection, path))

    def add_dids(self, dids: Iterable[str]) -> None:
        """Take in those of records that are edges and nothing else."""
        self._dids.update(dids)

    def intern(self, interner: Interner) -> tuple[Names, dict[tuple[int, str], int]]:
        """Their numbers, and those of (collection, path)."""
        names = Names(
            interner.actors(self._dids),
            interner.collections(self._nsids),
            interner.rkeys(self._rkeys),
        )
        return names, interner.paths(self._paths) if self._paths else {}


def read_shaped(
    shape: Shape, values: Sequence[bytes]
) -> Iterator[tuple[slice, Edges | None]]:
    """Records that have the size of a shape: which of them, and their columns; None
    for one that has nothing but the size."""
    columns = read_edges(shape, values)
    if columns is not None or len(values) == 1:
        yield slice(0, len(values)), columns
        return
    for index, value in enumerate(values):
        yield slice(index, index + 1), read_edges(shape, [value])


def read_record(nsid: str, raw: bytes, fields: Any) -> Reading:
    """A record of a collection; `fields` is what `cbor.decode_fast` gave, where it has
    been asked already."""
    module = collection_for(nsid)
    try:
        value = cbor.decode_fast(raw) if fields is None else fields
        if not isinstance(value, dict):
            raise InvalidRecordError("", "not a map")
        if nsid == module.COLLECTION and value.get("$type") != nsid:
            raise InvalidRecordError("$type", "not the collection it is in")
        links = module.find_links(value) if may_link(raw) else ()
        return Reading(module, value, links, None)
    except ProtocolError as error:
        return Reading(module, None, (), reason_of(error))


def reason_of(error: ProtocolError) -> str:
    """Why a record has no rows, as it is kept beside it."""
    return clean_text(str(error), _MAX_REASON_CHARS)
