"""Refusals of this server, under the error names of its lexicons."""

from __future__ import annotations

from typing import ClassVar

from network.errors import XrpcError


class PdsError(XrpcError):
    """A refusal with a message for the client.

    The name follows from the class, unless the class gives another.
    """

    _name: ClassVar[str] = "InvalidRequest"
    _status: ClassVar[int] = 400

    def __init_subclass__(cls, *, name: str | None = None, status: int = 400) -> None:
        cls._name = name or cls.__name__.removesuffix("Error")
        cls._status = status

    def __init__(self, message: str) -> None:
        super().__init__(self._name, message, self._status)


class AuthMissingError(PdsError, status=401): ...


class WrongPasswordError(PdsError, name="AuthenticationRequired", status=401): ...


class InvalidTokenError(PdsError):
    """400, not 401: clients of the reference server expect this status."""


class ExpiredTokenError(PdsError):
    """400 with this name makes the official client refresh its session."""


class AccountTakedownError(PdsError, status=401): ...


class AccountDeactivatedError(PdsError): ...


class InvalidRequestError(PdsError): ...


class InvalidHandleError(InvalidRequestError): ...


class HandleNotAvailableError(InvalidRequestError): ...


class UnsupportedDomainError(InvalidRequestError): ...


class InvalidPasswordError(InvalidRequestError): ...


class InvalidInviteCodeError(InvalidRequestError): ...


class InvalidMimeTypeError(InvalidRequestError): ...


class InvalidSizeError(InvalidRequestError): ...


class InvalidEmailError(InvalidRequestError): ...


class TokenRequiredError(InvalidRequestError): ...


class BadExpirationError(InvalidRequestError): ...


class NotFoundError(PdsError): ...


class InvalidSwapError(PdsError): ...


class RecordNotFoundError(PdsError): ...


class BlockNotFoundError(PdsError): ...


class BlobNotFoundError(PdsError): ...


class HandleNotFoundError(PdsError): ...


class RepoNotFoundError(PdsError): ...


class RepoTakendownError(PdsError): ...


class RepoSuspendedError(PdsError): ...


class RepoDeactivatedError(PdsError): ...


class BlobTooLargeError(PdsError, status=413): ...


class UpstreamFailureError(PdsError, status=502): ...


class UpstreamTimeoutError(PdsError, status=504): ...
