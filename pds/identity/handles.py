"""The rules of handles that this server gives out."""

from __future__ import annotations

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
_RESERVED_NAMES = """
    about abuse access account accounts activate admin administrator admins anonymous
    api apis app apps assets atp atproto auth authentication autodiscover avatar
    backup bigworld billing bluesky bot bots bsky cdn chat client clients config
    contact contact-us contributor dashboard default delete demo dev developer
    developers did dns doc docs documentation domain domains download email emails
    embed example examples faq feed feedback feeds file files firehose ftp guest
    handle handles help home host hosting hostmaster hostname http https imap index
    info inbox invite invites labeler legal lex lexicon list lists local localhost
    location login logout mail mailer maintenance manager me media messages mod
    moderation moderator mods mx nameserver network news newsletter nil none
    noreply no-reply notifications nsid null oauth official operator owner password
    payment payments pds plc policies policy pop pop3 postmaster privacy privacy-policy
    private profile proxy public register registration relay repo reports request
    reserved root rss sales script search secure security self server service services
    session settings sign-in sign-up signin signout signup site smtp ssh ssl sso staff
    stage staging static statistics status store support sysadmin system team teams
    terms terms-of-service test testing tests tid tos undefined update updates upload
    user username users verified verify video web webhook webmail webmaster website
    websites wpad www www1 www2 xrpc
"""
_RESERVED = frozenset(_RESERVED_NAMES.split())


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
