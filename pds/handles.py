"""Which handles this server gives out."""

from __future__ import annotations

from pds.errors import (
    HandleNotAvailableError,
    InvalidHandleError,
    UnsupportedDomainError,
)
from protocol.errors import InvalidSyntaxError
from protocol.syntax import Handle, is_resolvable_handle, normalize_handle

MIN_LABEL_CHARS = 3
MAX_LABEL_CHARS = 18

# Names that would pass for the server itself or its staff.
_RESERVED_NAMES = """
    about abuse account accounts admin administrator api app atproto auth blog cdn
    contact dev did dns docs email feed firehose ftp help hostmaster imap info
    localhost login mail mod moderation moderator news noreply oauth official pds
    plc policy postmaster privacy relay root search security signup smtp ssl staff
    status support sysadmin system team terms test webmaster www xrpc
"""
_RESERVED = frozenset(_RESERVED_NAMES.split())


def parse_requested_handle(text: str, *, dev: bool) -> Handle:
    """A handle somebody asks for, in lower case. Raises InvalidHandleError."""
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
    """Whether the handle lies under one of the server's own domains."""
    return any(handle.endswith(domain) for domain in domains)


def require_local(handle: str, domains: tuple[str, ...]) -> None:
    """Check a handle under the server's domains: one label, of sane length.

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
