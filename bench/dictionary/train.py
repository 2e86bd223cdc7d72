"""Training of the shipped compression dictionary: `python -m bench.dictionary.train`.

A dictionary in use is never changed. A better one gets the next id, and rows written
with the old one stay readable: both are rows of the table `dictionary`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import zstandard

from bench.dictionary.record_samples import make_samples
from protocol.data import cbor
from storage.records.record_codec import DICTIONARY_PATH

MAX_DICTIONARY_BYTES: Final = 65_536
_SEED: Final = 1
_SAMPLES: Final = 40_000


def train_dictionary(
    records: Iterable[bytes], max_bytes: int = MAX_DICTIONARY_BYTES
) -> bytes:
    """Return a dictionary for records like these, about ten thousand of them."""
    return zstandard.train_dictionary(max_bytes, list(records)).as_bytes()


def write_dictionary(
    path: Path = DICTIONARY_PATH, *, seed: int = _SEED, samples: int = _SAMPLES
) -> int:
    """Train on made-up records and write the file; return its size in bytes."""
    made = (cbor.encode(record) for _, record in make_samples(seed, samples))
    data = train_dictionary(made)
    path.write_bytes(data)
    return len(data)


if __name__ == "__main__":
    print(f"{DICTIONARY_PATH}: {write_dictionary()} bytes")
