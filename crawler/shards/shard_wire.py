"""The wire format between a router and its shards: two socket pairs a shard.

- frames: router -> shard, in the order of the streams
- control: shard -> router: stats, faults of streams, work for others

Both ends are processes of the same version, so control messages are pickled.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final
from zlib import crc32

from crawler.hosts.host_name import HostName
from crawler.live.pipeline import PipelineStats
from crawler.live.stream_state import Fault
from crawler.settings import MIB
from protocol.limits import MAX_FRAME_BYTES


class Kind(IntEnum):
    """The kinds of messages on the frames' channel.

    - open: the pickled OpenStream of a stream
    - frame: a raw frame; the position is that of the stream before it
    - mark: no body; the stream came to this position
    - reset: no body; the host of the stream numbers anew, behind the position
    - end: no body; finish what is queued, and exit
    """

    OPEN = 0
    FRAME = 1
    MARK = 2
    RESET = 3
    END = 4


@dataclass(frozen=True, slots=True)
class OpenStream:
    """The state of a new stream for a shard; see `StreamState`."""

    host: int
    hostname: HostName
    relay: bool
    trusted: bool
    last_seq: int


@dataclass(frozen=True, slots=True)
class StreamFault:
    """Close this stream; `last_seq` is the position before the frame at fault."""

    stream: int
    fault: Fault
    detail: str
    last_seq: int


@dataclass(frozen=True, slots=True)
class Throttled:
    """The number of further frames of a stream over the budgets of their accounts."""

    stream: int
    frames: int


@dataclass(frozen=True, slots=True)
class Wake:
    """There are repos to fetch, identities to resolve, or documents to write."""

    repos: bool = False
    identities: bool = False
    documents: bool = False


@dataclass(frozen=True, slots=True)
class ShardStats:
    """Totals and queue of a shard, sent twice a second."""

    stats: PipelineStats
    queued_bytes: int


# Kind, number of the stream, position, size of what follows.
_HEADER: Final = struct.Struct(">BIQI")
HEADER_BYTES: Final = _HEADER.size
_LENGTH: Final = struct.Struct(">I")
MAX_CONTROL_BYTES: Final = 4 * MIB
"""A few counters."""

pack_header = _HEADER.pack


def shard_of(did: str, shards: int) -> int:
    """Return the shard that owns an account, the same on all machines."""
    return crc32(did.encode("utf-8", "surrogatepass")) % shards


class MessageReader:
    """Cuts the frames' channel into (kind, stream, position, body)."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield the messages that this chunk completes. Exhaust the iterator.

        Raises ValueError for a malformed header.
        """
        data = self._rest + chunk if self._rest else chunk
        size, position = len(data), 0
        unpack = _HEADER.unpack_from
        while size - position >= HEADER_BYTES:
            kind, stream, seq, length = unpack(data, position)
            start = position + HEADER_BYTES
            end = start + length
            if length > MAX_FRAME_BYTES or kind > Kind.END:
                raise ValueError(f"a message of kind {kind} and {length} bytes")
            if end > size:
                break
            position = end
            yield kind, stream, seq, data[start:end]
        self._rest = data[position:]


def pack_control(message: Any) -> bytes:
    """Return one message of the control channel."""
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


class ControlReader:
    """Cuts the control channel into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[Any]:
        """Yield the messages that this chunk completes. Exhaust the iterator.

        Raises ValueError for an impossible length, and what unpickling raises.
        """
        self._rest += chunk
        while len(self._rest) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._rest)
            if length > MAX_CONTROL_BYTES:
                raise ValueError(f"a control message of {length} bytes")
            end = _LENGTH.size + length
            if len(self._rest) < end:
                return
            body, self._rest = self._rest[_LENGTH.size : end], self._rest[end:]
            yield pickle.loads(body)  # noqa: S301  (our own process on a socket pair)
