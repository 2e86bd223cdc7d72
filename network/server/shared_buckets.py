"""Buckets of the rate limits of several processes, in memory that they share.

Made before the processes are forked. A slot has the tag of a key and the moment at
which its bucket is full: 16 bytes. The key's set of slots follows from a keyed hash, so
that nobody can choose keys that meet.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import tempfile
import threading
import weakref
from collections.abc import Callable
from hashlib import blake2b
from struct import Struct
from typing import Final

_SETS: Final = 32_768
_WAYS: Final = 8
"""Slots of a set. In a full one the bucket that is full first gives way."""
_ITEM_BYTES: Final = 8
_LOCKS: Final = 512
"""Locks of all sets. A waiting process sleeps in the kernel."""
_PLACE: Final = Struct("=QQ")

Change = Callable[[float], tuple[bool, float]]
"""Full moment of a bucket -> (True if the points were there, the new moment)."""


class SharedBuckets:
    """The buckets of all limits of one server, in a fixed amount of memory.

    The locks belong to the kernel: those of a killed process are free at once. Its last
    change is either whole or missing. Safe in threads.
    """

    def __init__(self, sets: int = _SETS) -> None:
        self._sets = sets
        self._key = secrets.token_bytes(32)
        slots = sets * _WAYS
        # Anonymous and shared: forked processes see the same bytes.
        self._memory = mmap.mmap(-1, 2 * slots * _ITEM_BYTES)
        whole = memoryview(self._memory)
        self._tags = whole[: slots * _ITEM_BYTES].cast("Q")
        self._moments = whole[slots * _ITEM_BYTES :].cast("d")
        self._file, path = tempfile.mkstemp(prefix="bw-locks-")
        os.unlink(path)
        weakref.finalize(self, os.close, self._file)
        # The kernel's locks exclude processes, this one threads.
        self._threads = threading.Lock()

    def named(self, name: str) -> NamedBuckets:
        """Return the buckets of one limit, the same in each process."""
        return NamedBuckets(self, name)

    def update(self, key: str, change: Change) -> tuple[bool, float]:
        """Apply `change` to the bucket of a key; return its result."""
        text = key.encode(errors="surrogatepass")
        digest = blake2b(text, digest_size=_PLACE.size, key=self._key).digest()
        tag, number = _PLACE.unpack(digest)
        number %= self._sets
        first = number * _WAYS
        lock = number % _LOCKS
        with self._threads:
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, lock)
            try:
                return self._update(first, tag, change)
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, lock)

    def _update(self, first: int, tag: int, change: Change) -> tuple[bool, float]:
        last = first + _WAYS
        tags = self._tags[first:last].tolist()
        if tag in tags:
            slot = first + tags.index(tag)
            before = self._moments[slot]
            taken, moment = change(before)
            if moment != before:
                self._moments[slot] = moment
            return taken, moment
        taken, moment = change(0.0)
        if moment > 0.0:
            moments = self._moments[first:last].tolist()
            slot = first + moments.index(min(moments))
            # In this order a process killed in between leaves a key with a bucket that
            # is too empty by one request, never one that is locked.
            self._moments[slot] = moment
            self._tags[slot] = tag
        return taken, moment


class NamedBuckets:
    """The shared buckets of one limit."""

    def __init__(self, shared: SharedBuckets, name: str) -> None:
        self._shared = shared
        self._prefix = f"{name}\0"

    def update(self, key: str, change: Change) -> tuple[bool, float]:
        """Apply `change` to the bucket of a key; return its result."""
        return self._shared.update(self._prefix + key, change)
