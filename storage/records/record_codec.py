"""Stored form of a record's exact bytes. Thread-safe: zstd contexts are per thread.

The first byte tells the form. 0: the bytes as they are. A dictionary's id: a zstd frame
without its magic number. 240 and above: a shape of storage.records.record_shapes.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

import zstandard

from storage.postgres.pool import Conn
from storage.records.record_shapes import FIRST_SHAPE, read_edge, unpack_shape

DICTIONARY_ID: Final = 1
DICTIONARY_PATH: Final = Path(__file__).with_name("record_dictionary.zdict")
"""The shipped dictionary, trained by bench.dictionary.train."""
_LEVEL: Final = 3
# From this many records on, one call for all of them is faster.
_MANY: Final = 64
_PLAIN: Final = b"\x00"
_CURRENT: Final = bytes([DICTIONARY_ID])
_MAX_SHAPE_BYTES: Final = 512
_MAX_DICTIONARY_ID: Final = FIRST_SHAPE - 1

_dictionaries: Final[dict[int, zstandard.ZstdCompressionDict]] = {}
_contexts = threading.local()


class UnknownDictionaryError(Exception):
    """A row names a dictionary that is neither shipped nor loaded
    (`load_dictionaries`). This is our own fault, never that of input."""


def compress(value: bytes) -> bytes:
    """Return the stored form of a record's bytes."""
    edge = read_edge(value)
    if edge is not None:
        return edge.stored
    return _smaller(_compressor().compress(value), value)


def compress_all(values: Sequence[bytes]) -> list[bytes]:
    """Return the stored forms of many records.

    Many are compressed in one call, which releases the interpreter lock once.
    """
    if len(values) < _MANY:
        return [compress(value) for value in values]
    edges = list(map(read_edge, values))
    plain: list[bytes | bytearray | memoryview] = [
        value for value, edge in zip(values, edges, strict=True) if edge is None
    ]
    packed = iter(_compressor().multi_compress_to_buffer(plain) if plain else ())
    return [
        _smaller(next(packed).tobytes(), value) if edge is None else edge.stored
        for value, edge in zip(values, edges, strict=True)
    ]


def _compressor() -> zstandard.ZstdCompressor:
    compressor: zstandard.ZstdCompressor | None
    compressor = getattr(_contexts, "compressor", None)
    if compressor is None:
        compressor = _contexts.compressor = _make_compressor()
    return compressor


def _smaller(packed: bytes, value: bytes) -> bytes:
    return _CURRENT + packed if len(packed) < len(value) else _PLAIN + value


def decompress(stored: bytes) -> bytes:
    """Return the exact bytes of a record; raises UnknownDictionaryError."""
    number = stored[0]
    if number >= FIRST_SHAPE:
        return unpack_shape(stored)
    if number == 0:
        return stored[1:]
    decompressors = getattr(_contexts, "decompressors", None)
    if decompressors is None:
        decompressors = _contexts.decompressors = {}
    decompressor = decompressors.get(number)
    if decompressor is None:
        decompressor = decompressors[number] = _make_decompressor(number)
    value: bytes = decompressor.decompress(stored[1:])
    return value


def record_size(head: bytes, length: int) -> int:
    """Return a record's size from the first 32 stored bytes and the stored length.

    Nothing is unpacked, so a small row with a large record is detected. The size of a
    shape is an upper bound.
    """
    number = head[0]
    if number >= FIRST_SHAPE:
        return _MAX_SHAPE_BYTES
    if number == 0:
        return length - 1
    return int(zstandard.frame_content_size(zstandard.FRAME_HEADER + head[1:]))


def store_dictionary(conn: Conn) -> None:
    """Store the shipped dictionary in the database, so that a dump is readable.

    Raises UnknownDictionaryError if another dictionary has its id.
    """
    data = DICTIONARY_PATH.read_bytes()
    conn.execute(
        "INSERT INTO dictionary (id, data) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (DICTIONARY_ID, data),
    )
    row = conn.execute(
        "SELECT data FROM dictionary WHERE id = %s", (DICTIONARY_ID,)
    ).fetchone()
    if row is None or bytes(row[0]) != data:
        raise UnknownDictionaryError(
            f"dictionary {DICTIONARY_ID} of this database is not the shipped one"
        )


def load_dictionaries(conn: Conn) -> list[int]:
    """Load the database's older dictionaries; return all known ids."""
    for number, data in conn.execute("SELECT id, data FROM dictionary"):
        if number != DICTIONARY_ID and 0 < number <= _MAX_DICTIONARY_ID:
            _dictionaries[number] = zstandard.ZstdCompressionDict(data)
    return sorted({DICTIONARY_ID, *_dictionaries})


@cache
def _shipped() -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(DICTIONARY_PATH.read_bytes())


def _make_compressor() -> zstandard.ZstdCompressor:
    # Our first byte names the dictionary and PostgreSQL checks its pages: neither is
    # repeated in each row.
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_dict_id=False,
        write_checksum=False,
        write_content_size=True,
    )
    return zstandard.ZstdCompressor(dict_data=_shipped(), compression_params=parameters)


def _make_decompressor(number: int) -> zstandard.ZstdDecompressor:
    if number == DICTIONARY_ID:
        dictionary = _shipped()
    elif number in _dictionaries:
        dictionary = _dictionaries[number]
    else:
        raise UnknownDictionaryError(f"a record names dictionary {number}")
    return zstandard.ZstdDecompressor(
        dict_data=dictionary, format=zstandard.FORMAT_ZSTD1_MAGICLESS
    )
