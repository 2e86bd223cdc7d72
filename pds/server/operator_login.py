"""The operator's login: Basic auth with the user name `admin`."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final

from starlette.requests import Request

from network.server.admission import client_address, take_points
from network.server.rate_limit import RateLimit
from network.xrpc.server import Auth
from pds.context import OPERATOR_AUTH
from pds.exceptions import WrongPasswordError
from pds.server.invite_methods import CREATE_INVITE_CODE, CREATE_INVITE_CODES
from pds.settings import PdsSettings

_ADMIN_PREFIX: Final = "com.atproto.admin."
_ADMIN_METHODS: Final = frozenset({CREATE_INVITE_CODE, CREATE_INVITE_CODES})
_USER: Final = "admin"


def is_operator_method(nsid: str) -> bool:
    """Return True for a method that only the operator may call."""
    return nsid.startswith(_ADMIN_PREFIX) or nsid in _ADMIN_METHODS


class OperatorLogin:
    """The check of the operator's password; without one, every login is refused."""

    def __init__(self, settings: PdsSettings) -> None:
        self._password = settings.admin_password
        self._auth = Auth(settings.service_did, OPERATOR_AUTH)
        # Guesses from one address.
        self._failures = (RateLimit(30, 300.0),)

    def authenticate(self, request: Request) -> Auth:
        """Return the operator's Auth. Raises WrongPasswordError, or XrpcError 429."""
        if not self._is_right(request.headers.get("authorization", "")):
            take_points(request.scope, self._failures, client_address(request.scope))
            raise WrongPasswordError("Authentication Required")
        return self._auth

    def _is_right(self, header: str) -> bool:
        scheme, _, text = header.partition(" ")
        if scheme.lower() != "basic" or self._password is None:
            return False
        try:
            user, _, password = base64.b64decode(text, validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return False
        right = hmac.compare_digest(password, self._password.encode())
        return user == _USER.encode() and right
