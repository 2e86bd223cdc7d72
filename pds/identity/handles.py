"""The rules of handles that this server gives out."""

from __future__ import annotations

from pathlib import Path

from network.errors import IdentityError, NetworkError
from network.identity.resolver import IdentityResolver
from pds.exceptions import (
    HandleNotAvailableError,
    InvalidHandleError,
    UnsupportedDomainError,
)
from protocol.errors import InvalidSyntaxError
from protocol.syntax import Handle, is_resolvable_handle, normalize_handle

MIN_LABEL_CHARS = 3
MAX_LABEL_CHARS = 18

# Names that look like the server itself or its staff.
_RESERVED = frozenset(
    Path(__file__).with_name("reserved_names.txt").read_text().split()
)


def parse_requested_handle(text: str, *, dev: bool) -> Handle:
    """Return a requested handle in lower case. Raises InvalidHandleError."""
    try:
        handle = normalize_handle(text)
    except InvalidSyntaxError as error:
        raise InvalidHandleError(f"Input/handle must be a valid handle: {error}") from (
            error
        )
    if not is_resolvable_handle(handle, allow_test=dev):
        raise InvalidHandleError("Handle TLD is invalid or disallowed")
    return handle


def is_local(handle: str, domains: tuple[str, ...]) -> bool:
    """Return True if the handle lies under one of the server's own domains."""
    return any(handle.endswith(domain) for domain in domains)


def require_local(handle: str, domains: tuple[str, ...]) -> None:
    """Check a handle under the server's domains: one label of allowed length.

    Raises UnsupportedDomainError, InvalidHandleError, HandleNotAvailableError.
    """
    for domain in domains:
        if handle.endswith(domain):
            label = handle.removesuffix(domain)
            break
    else:
        raise UnsupportedDomainError("Not a supported handle domain")
    if "." in label:
        raise InvalidHandleError("Invalid characters in handle")
    if len(label) < MIN_LABEL_CHARS:
        raise InvalidHandleError("Handle too short")
    if len(label) > MAX_LABEL_CHARS:
        raise InvalidHandleError("Handle too long")
    if label in _RESERVED:
        raise HandleNotAvailableError("Reserved handle")


async def require_pointing_at(
    identity: IdentityResolver, handle: Handle, did: str
) -> None:
    """Raise InvalidHandleError unless the handle's domain names the DID now."""
    try:
        found = await identity.resolve_handle(handle, refresh=True)
    except (IdentityError, NetworkError) as error:
        raise InvalidHandleError("External handle did not resolve to DID") from error
    if found != did:
        raise InvalidHandleError("External handle did not resolve to DID")
