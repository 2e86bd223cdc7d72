"""Records of the common shapes, as columns: four in five of all records.

The stored form of a shape has fixed places. Its JSON and its exact bytes differ between
records in those places only, so they are filled by column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from export.columns import cid_letters, did_letters, tid_letters
from protocol.data import cbor
from storage.collections import (
    BLOCK_SUBJECT,
    FEED_LIKE,
    FEED_POST,
    FEED_REPOST,
    FOLLOW_SUBJECT,
    GRAPH_BLOCK,
    GRAPH_FOLLOW,
    LIKE_SUBJECT,
    PATHS,
    REPOST_SUBJECT,
)
from storage.records.record_shapes import FIRST_SHAPE, SHAPES, Shape, unpack_shape

_PATH: Final = {
    FEED_LIKE: PATHS[LIKE_SUBJECT][1],
    FEED_REPOST: PATHS[REPOST_SUBJECT][1],
    GRAPH_FOLLOW: PATHS[FOLLOW_SUBJECT][1],
    GRAPH_BLOCK: PATHS[BLOCK_SUBJECT][1],
}
_DID_BYTES: Final = 15
_TID_BYTES: Final = 8
_TIME_BYTES: Final = 6
MARK_OF: Final = {shape.nsid: FIRST_SHAPE + shape.number for shape in SHAPES}
"""First byte of the stored form of edges."""

Letters = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class EdgeTexts:
    """Columns of edges of one collection, as rows of letters.

    `target_rkeys` is None for edges to accounts.
    """

    path: str
    target_nsid: str | None
    json: Letters
    digests: list[bytes]
    target_dids: Letters
    target_rkeys: Letters | None


def read_edges(nsid: str, stored: Sequence[bytes]) -> EdgeTexts:
    """Return the columns of records of one collection that all have its shape."""
    shape = SHAPES[stored[0][0] - FIRST_SHAPE]
    raw = np.frombuffer(b"".join(stored), np.uint8).reshape(len(stored), -1)
    dids = did_letters(np.ascontiguousarray(raw[:, 1 : 1 + _DID_BYTES]))
    parts = {"did": dids, "time": _times(raw[:, -_TIME_BYTES:])}
    tids: Letters | None = None
    if shape.of_record:
        ends = raw[:, 1 + _DID_BYTES : -_TIME_BYTES]
        numbers = np.ascontiguousarray(ends[:, :_TID_BYTES]).view(">i8").ravel()
        parts["tid"] = tids = tid_letters(numbers.astype(np.int64))
        parts["cid"] = cid_letters(ends[:, _TID_BYTES:])
    form = _form(shape)
    block = _fill(form.block, form.block_places, parts)
    size = len(form.block)
    joined = memoryview(block.tobytes())
    digests = [
        sha256(joined[start : start + size]).digest()
        for start in range(0, len(joined), size)
    ]
    prefix = np.tile(np.frombuffer(b"did:plc:", np.uint8), (len(stored), 1))
    return EdgeTexts(
        _PATH[nsid],
        FEED_POST if shape.of_record else None,
        _fill(form.json, form.json_places, parts),
        digests,
        np.concatenate([prefix, dids], axis=1),
        tids,
    )


@dataclass(frozen=True, slots=True)
class _Form:
    block: Letters
    block_places: dict[str, int]
    json: Letters
    json_places: dict[str, int]


@cache
def _form(shape: Shape) -> _Form:
    """Return the fixed text of a shape, found from a record of distinct values."""
    did, tid, cid = bytes([0x21] * 15), bytes([0x12] * 8), bytes([0x63] * 32)
    time = (1_000_000_000_123).to_bytes(_TIME_BYTES, "big")
    target = did + tid + cid if shape.of_record else did
    block = unpack_shape(shape.mark + target + time)
    text = orjson.dumps(cbor.decode_fast(block))
    sample = {
        "did": did_letters(np.frombuffer(did, np.uint8)[None])[0].tobytes(),
        "time": b"2001-09-09T01:46:40.123",
    }
    if shape.of_record:
        number = np.array([int.from_bytes(tid, "big")], np.int64)
        sample["tid"] = tid_letters(number)[0].tobytes()
        sample["cid"] = cid_letters(np.frombuffer(cid, np.uint8)[None])[0].tobytes()
    return _Form(
        np.frombuffer(block, np.uint8),
        {name: block.index(value) for name, value in sample.items()},
        np.frombuffer(text, np.uint8),
        {name: text.index(value) for name, value in sample.items()},
    )


def _fill(text: Letters, places: dict[str, int], parts: dict[str, Letters]) -> Letters:
    rows = np.tile(text, (len(parts["did"]), 1))
    for name, letters in parts.items():
        start = places[name]
        rows[:, start : start + letters.shape[1]] = letters
    return rows


def _times(raw: Any) -> Letters:
    """Return the letters of times in milliseconds since 1970, without the Z."""
    padded = np.zeros((len(raw), 8), np.uint8)
    padded[:, 2:] = raw
    moments = padded.view(">i8").ravel().astype("datetime64[ms]")
    texts = np.datetime_as_string(moments, unit="ms").astype("S23")
    return texts.view(np.uint8).reshape(len(raw), 23)
