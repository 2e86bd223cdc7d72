"""Shapes of storage.records.record_shapes, read many at a time.

A whole repo is mostly records of few fixed lengths. One regular expression splits them
joined, and one call decodes a column: a quarter of the time of reading one by one, with
the same results.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from libipld import decode_multibase

from storage.records.record_shapes import SHAPES, Shape

_EPOCH: Final = datetime(1970, 1, 1)
_MILLISECOND: Final = timedelta(milliseconds=1)
# Columns are filled up to whole bytes with letters that mean zero.
_CID_FILL: Final = "aaaaaa"
_CIDS: Final = struct.Struct(">4x32s4x")
_DIDS: Final = struct.Struct(">15s")
_TIDS: Final = struct.Struct(">2xQ")
_TID_BYTES: Final = struct.Struct(">2x8s")
_TID_LETTERS: Final = "234567abcdefghijklmnopqrstuvwxyz"
_TID_TO_BASE32: Final = str.maketrans(_TID_LETTERS, "abcdefghijklmnopqrstuvwxyz234567")
_TID_ZEROS: Final = "222"
_MAX_RKEY: Final = 2**63 - 1
# TIDs of 63 bits, each closed by a character that no record key holds.
_CLOSED_TID: Final = re.compile(r"[2-7ab][2-7a-z]{12}/", re.ASCII)
_CLOSED_TID_CHARS: Final = 14

_RECORD: Final = {
    shape.nsid: re.compile(shape.pattern.decode("latin-1")) for shape in SHAPES
}


@dataclass(frozen=True, slots=True)
class Edges:
    """Columns of records that are edges.

    Target DIDs, ids of target record keys (empty for accounts), stored forms, and
    `createdAt` in milliseconds since 1970.
    """

    dids: list[str]
    rkeys: list[int]
    stored: list[bytes]
    created: list[int]


SHAPE_OF: Final[dict[str, Shape]] = {shape.nsid: shape for shape in SHAPES}


def read_edges(shape: Shape, values: Sequence[bytes]) -> Edges | None:
    """Return records as columns; None unless all are of this shape.

    The caller then uses `read_edge` for each.
    """
    size = shape.size
    joined = b"".join(values).decode("latin-1")
    found: list[tuple[str, ...]] = _RECORD[shape.nsid].findall(joined)
    # The matches fill the text only if each value is one of them.
    if len(found) != len(values) or len(joined) != size * len(values):
        return None
    if any(len(value) != size for value in values):
        return None
    if not found:
        return Edges([], [], [], [])
    created = _read_times([row[-5:] for row in found])
    if created is None:
        return None
    times = [time.to_bytes(6, "big") for time in created]
    number = shape.mark
    if not shape.of_record:
        dids = [row[0] for row in found]
        stored = [
            b"".join((number, did, time))
            for (did,), time in zip(_dids(dids), times, strict=True)
        ]
        return Edges(["did:plc:" + did for did in dids], [], stored, created)
    dids = [row[1] for row in found]
    cids: bytes = decode_multibase(
        "b" + "".join([row[0][1:] + _CID_FILL for row in found])
    )[1]
    tids = _decode_tids("".join([_TID_ZEROS + row[2] for row in found]))
    stored = [
        b"".join((number, did, tid, cid, time))
        for (did,), (tid,), (cid,), time in zip(
            _dids(dids),
            _TID_BYTES.iter_unpack(tids),
            _CIDS.iter_unpack(cids),
            times,
            strict=True,
        )
    ]
    rkeys = [number for (number,) in _TIDS.iter_unpack(tids)]
    if not all(rkeys) or max(rkeys) > _MAX_RKEY:
        return None
    return Edges(["did:plc:" + did for did in dids], rkeys, stored, created)


def tid_numbers(rkeys: Sequence[str]) -> list[int] | None:
    """Return the ids of record keys; None unless all are TIDs in 1 … 2**63 - 1."""
    joined = "/".join(rkeys) + "/"
    # Each key has the length of a match: as many matches as keys is one each.
    if len(joined) != _CLOSED_TID_CHARS * len(rkeys):
        return None
    if len(_CLOSED_TID.findall(joined)) != len(rkeys):
        return None
    tids = _decode_tids(_TID_ZEROS + joined[:-1].replace("/", _TID_ZEROS))
    numbers = [number for (number,) in _TIDS.iter_unpack(tids)]
    return numbers if all(numbers) else None


def _dids(texts: list[str]) -> Iterator[tuple[bytes, ...]]:
    raw: bytes = decode_multibase("b" + "".join(texts))[1]
    return _DIDS.iter_unpack(raw)


def _decode_tids(filled: str) -> bytes:
    raw: bytes = decode_multibase("b" + filled.translate(_TID_TO_BASE32))[1]
    return raw


def _read_times(rows: list[tuple[str, ...]]) -> list[int] | None:
    """Return milliseconds since 1970; None if a time is invalid."""
    days: dict[str, int] = {}
    times: list[int] = []
    for day, hour, minute, second, millisecond in rows:
        start = days.get(day)
        if start is None:
            try:
                began = datetime.fromisoformat(day)
            except ValueError:
                return None
            start = days[day] = (began - _EPOCH) // _MILLISECOND
            if start < 0:
                return None
        time = start + _HOURS[hour] + _MINUTES[minute] + _SECONDS[second]
        times.append(time + int(millisecond))
    return times


_HOURS: Final = {f"{number:02}": number * 3_600_000 for number in range(24)}
_MINUTES: Final = {f"{number:02}": number * 60_000 for number in range(60)}
_SECONDS: Final = {f"{number:02}": number * 1_000 for number in range(60)}
