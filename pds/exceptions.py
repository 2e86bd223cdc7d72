"""What this server refuses, by the error names of its lexicons.

PdsError
├── AuthMissingError, WrongPasswordError, InvalidTokenError, ExpiredTokenError
├── AccountTakedownError, AccountDeactivatedError
├── InvalidRequestError
│   ├── InvalidHandleError, HandleNotAvailableError, UnsupportedDomainError,
│   │   InvalidPasswordError, InvalidInviteCodeError, IncompatibleDidDocError,
│   │   InvalidMimeTypeError, InvalidSizeError, BadExpirationError
├── InvalidSwapError
├── RecordNotFoundError, BlockNotFoundError, BlobNotFoundError, HandleNotFoundError
├── RepoNotFoundError, RepoTakendownError, RepoSuspendedError, RepoDeactivatedError
├── BlobTooLargeError
└── UpstreamFailureError, UpstreamTimeoutError

`server.py` turns them into XRPC answers; nothing else here knows HTTP but the status.
"""

from __future__ import annotations

from typing import ClassVar


class PdsError(Exception):
    """A refusal that the caller is told about. The message may be shown to anyone."""

    name: ClassVar[str] = "InvalidRequest"
    status: ClassVar[int] = 400


class AuthMissingError(PdsError):
    name = "AuthMissing"
    status = 401


class WrongPasswordError(PdsError):
    name = "AuthenticationRequired"
    status = 401


class InvalidTokenError(PdsError):
    # 400, not 401: clients of the reference server look for exactly this.
    name = "InvalidToken"


class ExpiredTokenError(PdsError):
    # 400 with this name is what makes the official client refresh its session.
    name = "ExpiredToken"


class AccountTakedownError(PdsError):
    name = "AccountTakedown"
    status = 401


class AccountDeactivatedError(PdsError):
    name = "AccountDeactivated"


class InvalidRequestError(PdsError):
    pass


class InvalidHandleError(InvalidRequestError):
    name = "InvalidHandle"


class HandleNotAvailableError(InvalidRequestError):
    name = "HandleNotAvailable"


class UnsupportedDomainError(InvalidRequestError):
    name = "UnsupportedDomain"


class InvalidPasswordError(InvalidRequestError):
    name = "InvalidPassword"


class InvalidInviteCodeError(InvalidRequestError):
    name = "InvalidInviteCode"


class IncompatibleDidDocError(InvalidRequestError):
    name = "IncompatibleDidDoc"


class InvalidMimeTypeError(InvalidRequestError):
    name = "InvalidMimeType"


class InvalidSizeError(InvalidRequestError):
    name = "InvalidSize"


class BadExpirationError(InvalidRequestError):
    name = "BadExpiration"


class InvalidSwapError(PdsError):
    name = "InvalidSwap"


class RecordNotFoundError(PdsError):
    name = "RecordNotFound"


class BlockNotFoundError(PdsError):
    name = "BlockNotFound"


class BlobNotFoundError(PdsError):
    name = "BlobNotFound"


class HandleNotFoundError(PdsError):
    name = "HandleNotFound"


class RepoNotFoundError(PdsError):
    name = "RepoNotFound"


class RepoTakendownError(PdsError):
    name = "RepoTakendown"


class RepoSuspendedError(PdsError):
    name = "RepoSuspended"


class RepoDeactivatedError(PdsError):
    name = "RepoDeactivated"


class BlobTooLargeError(PdsError):
    name = "BlobTooLarge"
    status = 413


class UpstreamFailureError(PdsError):
    name = "UpstreamFailure"
    status = 502


class UpstreamTimeoutError(PdsError):
    name = "UpstreamTimeout"
    status = 504
