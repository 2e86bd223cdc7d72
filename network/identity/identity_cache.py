"""Where resolved identities are kept between look-ups."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
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
    """The values used last, at most `size` of them, and where `weigh` tells what each
    weighs, at most `most` of that together."""

    def __init__(
        self, size: int, *, weigh: Callable[[V], int] | None = None, most: int = 0
    ) -> None:
        self._size = size
        self._weigh = weigh
        self._most = most
        self._weight = 0
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
        weigh = self._weigh
        if weigh is not None:
            before = self._values.get(key)
            self._weight += weigh(value) - (0 if before is None else weigh(before))
        self._values[key] = value
        self._values.move_to_end(key)
        while len(self._values) > self._size or self._weight > self._most:
            _, forgotten = self._values.popitem(last=False)
            if weigh is not None:
                self._weight -= weigh(forgotten)


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
