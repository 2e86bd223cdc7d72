"""The compression dictionary that ships with the project, and how it was made.

`python -m storage.records.record_dictionary` writes the file anew. A dictionary in
use is never changed: a better one gets the next id, and rows written with the old one
stay readable, for both are rows of the table `dictionary`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import zstandard

from protocol.data import cbor
from storage.records.record_samples import make_samples

DICTIONARY_ID: Final = 1
DICTIONARY_PATH: Final = Path(__file__).with_name("record_dictionary.zdict")
MAX_DICTIONARY_BYTES: Final = 65_536

_SEED: Final = 1
_SAMPLES: Final = 40_000


def train_dictionary(
    records: Iterable[bytes], max_bytes: int = MAX_DICTIONARY_BYTES
) -> bytes:
    """A dictionary for records like these: their exact bytes, some ten thousand."""
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
