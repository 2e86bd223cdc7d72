"""CAR files, version 1: a header with roots, then blocks (specs/repository).

Every block is checked against its CID; order and completeness are not checked. A file
cut between two blocks reads as a shorter one, so walking the tree finds what is
missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from protocol.data import cbor_strict
from protocol.data.cid import BLOB_PREFIX, CID_BYTES, DATA_PREFIX, Cid, is_data_cid
from protocol.errors import (
    InvalidEncodingError,
    LimitExceededError,
    MissingBlockError,
    TruncatedError,
)
from protocol.limits import MAX_BLOCK_BYTES, MAX_CAR_HEADER_BYTES, MAX_CAR_ROOTS

_MAX_VARINT_BYTES: Final = 10
_MAX_SECTION_BYTES: Final = CID_BYTES + MAX_BLOCK_BYTES
_HEADER_DEPTH: Final = 4

# The usual header around the root: length, {"roots": [link]}, version.
_HEADER_START: Final = bytes.fromhex("3a a2 65 726f6f7473 81 d82a 5825 00")
_HEADER_END: Final = bytes.fromhex("67 76657273696f6e 01")
_ROOT_START: Final = len(_HEADER_START)
_ROOT_END: Final = _ROOT_START + CID_BYTES
_HEADER_BYTES: Final = _ROOT_END + len(_HEADER_END)


# Not frozen: freezing makes construction seven times slower.
@dataclass(slots=True)
class Car:
    """A whole CAR: `root` is the first of `roots`, `blocks` are by CID."""

    root: bytes
    roots: tuple[bytes, ...]
    blocks: dict[bytes, bytes]


def read_car(data: bytes) -> Car:
    """Parse a whole CAR.

    Raises InvalidEncodingError for a wrong header, length or hash, and TruncatedError
    for missing bytes. Raises MissingBlockError without the first root,
    LimitExceededError for a block of over 2 MiB.
    """
    size = len(data)
    root = data[_ROOT_START:_ROOT_END]
    if (
        data.startswith(_HEADER_START)
        and data.startswith(_HEADER_END, _ROOT_END)
        and is_data_cid(root)
    ):
        roots: tuple[bytes, ...] = (root,)
        position = _HEADER_BYTES
    else:
        start, end = _section(data, 0, MAX_CAR_HEADER_BYTES)
        if end > size:
            raise TruncatedError("CAR ends in its header")
        roots = _read_header(data[start:end])
        position = end
    blocks: dict[bytes, bytes] = {}
    while position < size:
        length = data[position]
        if length < 0x80:
            position += 1
            _check_holds_cid(length)
        elif position + 1 < size and 0 < data[position + 1] < 0x80:
            length = length & 0x7F | data[position + 1] << 7
            position += 2
        else:
            position, end = _section(data, position, _MAX_SECTION_BYTES)
            length = end - position
        end = position + length
        if end > size:
            raise TruncatedError("CAR ends in a block")
        cid = data[position : position + CID_BYTES]
        block = data[position + CID_BYTES : end]
        if DATA_PREFIX + sha256(block).digest() != cid:
            _check_unusual(cid, block)
        blocks[cid] = block
        position = end
    if roots[0] not in blocks:
        raise MissingBlockError("CAR does not contain its root")
    return Car(roots[0], roots, blocks)


class CarReader:
    """An incremental CAR parser that holds at most one block and one chunk.

    `rootless` accepts a CAR without roots, as com.atproto.sync.getBlocks returns.
    """

    def __init__(self, *, rootless: bool = False) -> None:
        self._rootless = rootless
        self._begun = False
        self._pieces: list[bytes] = []
        self._held = 0
        # Bytes that must be held before parsing can continue.
        self._needed = 1
        self._roots: tuple[bytes, ...] = ()

    @property
    def roots(self) -> tuple[bytes, ...]:
        """Return the roots, empty until the header has been read."""
        return self._roots

    @property
    def root(self) -> bytes:
        """Return the first root; raise TruncatedError before the header is read."""
        if not self._roots:
            raise TruncatedError("CAR ends in its header")
        return self._roots[0]

    def feed(self, chunk: bytes) -> list[tuple[bytes, bytes]]:
        """Return the (CID, block) pairs that a chunk completes, as `read_car`."""
        self._pieces.append(chunk)
        self._held += len(chunk)
        if self._held < self._needed:
            return []
        data = b"".join(self._pieces)
        size = len(data)
        last = size - 1
        position = 0
        begun = self._begun
        found: list[tuple[bytes, bytes]] = []
        while position < size:
            # Nearly all blocks have a length of two bytes.
            if (
                begun
                and position < last
                and 0 < (high := data[position + 1]) < 0x80 <= (low := data[position])
            ):
                start = position + 2
                end = start + (low & 0x7F | high << 7)
            else:
                limit = _MAX_SECTION_BYTES if begun else MAX_CAR_HEADER_BYTES
                try:
                    start, end = _section(data, position, limit)
                except TruncatedError:
                    self._needed = size - position + 1
                    break
                if begun:
                    _check_holds_cid(end - start)
            if end > size:
                self._needed = end - position
                break
            if begun:
                cid = data[start : start + CID_BYTES]
                block = data[start + CID_BYTES : end]
                if DATA_PREFIX + sha256(block).digest() != cid:
                    _check_unusual(cid, block)
                found.append((cid, block))
            else:
                self._roots = _read_header(data[start:end], self._rootless)
                begun = self._begun = True
            position = end
        else:
            self._needed = 1
        rest = data[position:]
        self._pieces = [rest]
        self._held = len(rest)
        return found

    def close(self) -> None:
        """Raise TruncatedError unless the bytes end after the header or a block."""
        if self._held or not self._begun:
            raise TruncatedError("CAR ends early")


def car_header(root: bytes) -> bytes:
    """Return the header of a CAR with a single root."""
    return _HEADER_START + root + _HEADER_END


def car_block(cid: bytes, block: bytes) -> bytes:
    """Return a block as it stands in a CAR: length, CID, bytes."""
    return _varint(len(cid) + len(block)) + cid + block


def _read_header(header: bytes, rootless: bool = False) -> tuple[bytes, ...]:
    fields = cbor_strict.decode(header, max_depth=_HEADER_DEPTH)
    version = fields.get("version") if type(fields) is dict else None
    if type(version) is not int or version != 1:
        raise InvalidEncodingError("not a CAR of version 1")
    roots = fields.get("roots")
    if roots == [] and rootless:
        return ()
    if type(roots) is not list or not roots:
        raise InvalidEncodingError("CAR has no root")
    if len(roots) > MAX_CAR_ROOTS:
        raise LimitExceededError("CAR has too many roots")
    if not all(type(root) is Cid for root in roots) or not is_data_cid(roots[0].raw):
        raise InvalidEncodingError("CAR root is not the CID of a block")
    return tuple(root.raw for root in roots)


def _check_holds_cid(length: int) -> None:
    if length < CID_BYTES:
        raise InvalidEncodingError("CAR block has no CID of 36 bytes")


def _check_unusual(cid: bytes, block: bytes) -> None:
    """Raise InvalidEncodingError unless this is a correct block of raw bytes."""
    if cid[:4] not in (DATA_PREFIX, BLOB_PREFIX):
        raise InvalidEncodingError("CAR block has no CID of 36 bytes")
    if sha256(block).digest() != cid[4:]:
        raise InvalidEncodingError("CAR block does not match its CID")


def _section(data: bytes, position: int, limit: int) -> tuple[int, int]:
    """Return the start and end of the section at `position`; it may end after the data.

    Raises TruncatedError if the length itself is cut off.
    """
    length = shift = 0
    for byte in data[position : position + _MAX_VARINT_BYTES]:
        position += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            if not byte and shift:
                raise InvalidEncodingError("CAR length is longer than necessary")
            if length > limit:
                raise LimitExceededError("CAR section is too large")
            return position, position + length
        shift += 7
    if shift == 7 * _MAX_VARINT_BYTES:
        raise InvalidEncodingError("CAR length has no end")
    raise TruncatedError("CAR ends in a length")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
