"""Where resolved identities are kept between look-ups."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class CachedDocument:
    """A DID document as JSON, or None with the class name of the IdentityError.

    `fetched_at` is Unix time in seconds.
    """

    document: Any | None
    error: str | None
    fetched_at: float


@dataclass(frozen=True, slots=True)
class CachedHandle:
    """The DID that a handle named, or None with the class name of the error."""

    did: str | None
    error: str | None
    checked_at: float


class IdentityCache(Protocol):
    """A store shared between processes; whatever is in it may vanish at any time."""

    async def load_document(self, did: str) -> CachedDocument | None: ...

    async def save_document(self, did: str, cached: CachedDocument) -> None: ...

    async def load_handle(self, handle: str) -> CachedHandle | None: ...

    async def save_handle(self, handle: str, cached: CachedHandle) -> None: ...


class BoundedCache(Generic[V]):
    """The values used last, at most `size` of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[str, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str) -> V | None:
        """The value, which becomes the newest; None if there is none."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: str, value: V) -> None:
        """Keep a value, and forget the oldest if there are too many."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._size:
            self._values.popitem(last=False)


class MemoryIdentityCache:
    """An IdentityCache of this process alone."""

    def __init__(self, size: int = 10_000) -> None:
        self._documents: BoundedCache[CachedDocument] = BoundedCache(size)
        self._handles: BoundedCache[CachedHandle] = BoundedCache(size)

    async def load_document(self, did: str) -> CachedDocument | None:
        return self._documents.get(did)

    async def save_document(self, did: str, cached: CachedDocument) -> None:
        self._documents.put(did, cached)

    async def load_handle(self, handle: str) -> CachedHandle | None:
        return self._handles.get(handle)

    async def save_handle(self, handle: str, cached: CachedHandle) -> None:
        self._handles.put(handle, cached)
