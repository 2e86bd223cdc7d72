"""Recorded frames of a reference server, if a folder with them exists."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zstandard

from protocol.identity.keys import PublicKey, parse_did_key
from protocol.syntax import Did

FOLDER_VARIABLE: Final = "ATPROTO_REFERENCE"
CURVES: Final = ("k256", "p256")

_SIZE_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Recorded:
    """All frames of a stream in order, and the keys of its accounts."""

    frames: list[bytes]
    keys: dict[Did, PublicKey]


def recorded_folder() -> Path | None:
    """Return the folder of recorded frames named by the environment, if any."""
    name = os.environ.get(FOLDER_VARIABLE)
    return Path(name) if name else None


def read_recorded(folder: Path, curve: str) -> Recorded:
    """Read the stream of accounts that sign on `curve`, one of CURVES.

    Raises FileNotFoundError.
    """
    keys = json.loads((folder / f"keys-{curve}.json").read_bytes())
    return Recorded(
        list(_split(unpack(folder / f"frames-{curve}.bin.zst"))),
        {Did(did): parse_did_key(key) for did, key in keys.items()},
    )


def unpack(path: Path) -> bytes:
    """Decompress a zstd file."""
    packed = io.BytesIO(path.read_bytes())
    return zstandard.ZstdDecompressor().stream_reader(packed).read()


def _split(stream: bytes) -> Iterator[bytes]:
    """Split a stream of frames, each after its size in four bytes, big-endian."""
    position = 0
    while position < len(stream):
        start = position + _SIZE_BYTES
        position = start + int.from_bytes(stream[position:start], "big")
        yield stream[start:position]
