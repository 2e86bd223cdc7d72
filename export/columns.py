"""Arrow columns from numbers and bytes, without a step for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from libipld import encode_multibase

from protocol.data.cid import DATA_PREFIX

_TO_TID: Final = np.zeros(128, np.uint8)
_TO_TID[np.frombuffer(b"abcdefghijklmnopqrstuvwxyz234567", np.uint8)] = np.frombuffer(
    b"234567abcdefghijklmnopqrstuvwxyz", np.uint8
)
_CLOCK_BITS: Final = 10
_CID_DIGITS: Final = 58

Ints = npt.NDArray[np.int64]


def fixed_texts(letters: npt.NDArray[np.uint8]) -> Any:
    """Return a column of texts of one length: a row of ASCII letters each."""
    rows, size = letters.shape
    offsets = np.arange(0, rows * size + 1, size, dtype=np.int32)
    return pa.StringArray.from_buffers(
        rows, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(letters))
    )


def named(numbers: npt.NDArray[Any], names: Mapping[int, str]) -> Any:
    """Return a column of the names of numbers."""
    found, places = np.unique(numbers, return_inverse=True)
    texts = pa.array([names[number] for number in found.tolist()], pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), texts)


def record_keys(rkeys: Ints, texts: Mapping[int, str]) -> Any:
    """Return a column of record keys; `texts` has those that are no TIDs."""
    letters = tid_letters(rkeys)
    if rkeys.size == 0 or rkeys.min() > 0:
        return fixed_texts(letters)
    keys = fixed_texts(letters).to_pylist()
    for place in np.flatnonzero(rkeys <= 0).tolist():
        keys[place] = texts.get(int(rkeys[place]), "")
    return pa.array(keys, pa.string())


def tid_times(rkeys: Ints) -> Any:
    """Return a column of the times in TIDs, in microseconds; null for other keys."""
    return pa.array(rkeys >> _CLOCK_BITS, pa.int64(), mask=rkeys <= 0)


def cid_texts(digests: Sequence[bytes]) -> Any:
    """Return a column of the CIDs of blocks with these SHA-256 digests."""
    raw = np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), 32)
    return fixed_texts(cid_letters(raw))


def cid_letters(digests: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the letters of CIDs of blocks with these digests, a row each."""
    rows = len(digests)
    # Filled up to whole letters, so that one call encodes the column.
    raw = np.zeros((rows, 40), np.uint8)
    raw[:, :4] = np.frombuffer(DATA_PREFIX, np.uint8)
    raw[:, 4:36] = digests
    letters = np.empty((rows, 1 + _CID_DIGITS), np.uint8)
    letters[:, 0] = ord("b")
    letters[:, 1:] = _base32(raw)[:, :_CID_DIGITS]
    return letters


def tid_letters(numbers: Ints) -> npt.NDArray[np.uint8]:
    """Return the letters of TIDs, a row each."""
    raw = np.zeros((len(numbers), 10), np.uint8)
    raw[:, 2:] = numbers.astype(">i8").view(np.uint8).reshape(len(numbers), 8)
    return _TO_TID[_base32(raw)[:, 3:]]


def did_letters(raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the letters of the methods' part of did:plc identifiers, a row each."""
    return _base32(raw)


def _base32(raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the letters of rows whose size is a multiple of five bytes."""
    text: str = encode_multibase("b", raw.tobytes())[1:]
    return np.frombuffer(text.encode(), np.uint8).reshape(
        len(raw), raw.shape[1] * 8 // 5
    )


def constant(value: int, rows: int) -> Any:
    """Return a column with the same number in each row."""
    return pa.array(np.full(rows, value, np.int64))
