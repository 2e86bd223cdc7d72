"""The interface of caches of resolved identities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

from network import errors
from network.errors import IdentityError


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
    """A store shared between processes; any entry may vanish at any time."""

    async def load_document(self, did: str) -> CachedDocument | None: ...

    async def save_document(self, did: str, cached: CachedDocument) -> None: ...

    async def load_handle(self, handle: str) -> CachedHandle | None: ...

    async def save_handle(self, handle: str, cached: CachedHandle) -> None: ...


_REVIVABLE: Final = {
    kind.__name__: kind
    for kind in (
        errors.BadDocumentError,
        errors.DidNotFoundError,
        errors.DidTombstonedError,
        errors.HandleMismatchError,
        errors.HandleNotFoundError,
    )
}


def revive_error(name: str | None, subject: str) -> IdentityError | None:
    """Return a cached error of a subject; None if its class is unknown."""
    kind = _REVIVABLE.get(name or "")
    return kind(f"{subject} did not resolve lately") if kind else None
