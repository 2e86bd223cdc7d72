"""What can go wrong outside this process.

NetworkError                 a call to another machine failed
├── UnreachableError         no connection, or it broke before the end
├── TimedOutError            connect, first byte, total time or floor speed
├── TooLargeError            more bytes than the caller allows
├── ForbiddenAddressError    URL, host or address that we never dial
├── RateLimitedError         the host asked us to wait, or our own budget is spent
└── BadResponseError         an answer that is not what was asked for
IdentityError                a DID or handle does not resolve to what it claims
├── UnsupportedDidError      neither did:plc nor did:web
├── DidNotFoundError
│   └── DidTombstonedError
├── BadDocumentError         the document breaks a rule of specs/did
├── HandleNotFoundError
├── HandleMismatchError
└── KeyNotDeclaredError
XrpcError                    an error with a name, as XRPC carries it
"""

from __future__ import annotations


class NetworkError(Exception):
    """A call to another machine failed."""


class UnreachableError(NetworkError):
    """No connection could be made, or it broke before the answer was whole."""


class TimedOutError(NetworkError):
    """The peer was slower than the limit for this kind of call."""


class TooLargeError(NetworkError):
    """The answer is larger than the caller allows, counted after inflating."""


class ForbiddenAddressError(NetworkError):
    """A URL, a host name or a resolved address that the policy refuses."""


class RateLimitedError(NetworkError):
    """Wait `retry_after` seconds before the next request to this host."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BadResponseError(NetworkError):
    """An answer with the wrong status or shape.

    `status` is the HTTP status; `body` its first few kilobytes, for an XRPC error
    body in it.
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
    """The directory or the host says that there is no such DID."""


class DidTombstonedError(DidNotFoundError):
    """The DID existed and its holder gave it up for good."""


class BadDocumentError(IdentityError):
    """The DID document is too large, not JSON, or of another DID."""


class HandleNotFoundError(IdentityError):
    """Neither DNS nor the well-known file names a DID for the handle."""


class HandleMismatchError(IdentityError):
    """The two directions disagree: handle to DID, DID to handle."""


class KeyNotDeclaredError(IdentityError):
    """The DID document declares no usable signing key."""


class XrpcError(Exception):
    """An error as XRPC carries it: `{"error": name, "message": message}`.

    Raised by `network.xrpc.client` for error answers, and by handlers of
    `network.xrpc.server` to give one (specs/xrpc).
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
