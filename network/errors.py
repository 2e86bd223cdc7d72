"""Errors of calls to other servers, of identities, and of XRPC."""

from __future__ import annotations


class NetworkError(Exception):
    """A call to another server failed."""


class UnreachableError(NetworkError):
    """No connection could be made, or it broke before the response was whole."""


class TimedOutError(NetworkError):
    """The peer was slower than the limit for this kind of call."""


class TooLargeError(NetworkError):
    """The response is larger than the caller allows, counted after inflating."""


class ForbiddenAddressError(NetworkError):
    """A URL, a host name or a resolved address that the policy refuses."""


class RateLimitedError(NetworkError):
    """Wait `retry_after` seconds before the next request to this host."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BadResponseError(NetworkError):
    """A response with the wrong status or shape.

    `body` is the start of the body, which may hold an XRPC error.
    """

    def __init__(self, message: str, status: int, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class IdentityError(Exception):
    """A DID or a handle does not resolve to what it claims."""


class UnsupportedDidError(IdentityError):
    """A DID method, or a form of one, that the network does not use."""


class DidNotFoundError(IdentityError):
    """The directory or the host has no such DID."""


class DidTombstonedError(DidNotFoundError):
    """The DID existed and was tombstoned."""


class BadDocumentError(IdentityError):
    """The DID document is too large, not JSON, or of another DID."""


class HandleNotFoundError(IdentityError):
    """Neither DNS nor the well-known file names a DID for the handle."""


class HandleMismatchError(IdentityError):
    """The two directions disagree: handle to DID, DID to handle."""


class LexiconNotFoundError(IdentityError):
    """Nobody publishes the lexicon of an NSID."""


class XrpcError(Exception):
    """An error as XRPC carries it: `{"error": name, "message": message}`.

    Raised by `network.xrpc.client` for error responses, and by handlers of
    `network.xrpc.server` (specs/xrpc).
    """

    def __init__(
        self,
        name: str,
        message: str = "",
        status: int = 400,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{name}: {message}" if message else name)
        self.name = name
        self.message = message
        self.status = status
        self.headers = headers or {}
