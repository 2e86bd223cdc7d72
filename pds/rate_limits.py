"""The limits of single methods, with the numbers of the reference PDS.

They apply in addition to each client's share (`network.server.request_guard`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from network.server.admission import client_address, take_points
from network.server.rate_limit import RateLimit
from network.xrpc.server import Call
from pds.repo.repo_writes import Intent
from pds.settings import PdsSettings

_MINUTE: Final = 60.0
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR

_POINTS: Final[Mapping[Intent, int]] = {
    Intent.CREATE: 3,
    Intent.PUT: 2,
    Intent.UPDATE: 2,
    Intent.DELETE: 1,
    Intent.ENSURE_ABSENT: 1,
}


class MethodLimits:
    """The limits of one server, counted by account or by the client's address.

    Each method raises XrpcError 429 beyond its limit. It sets the rate limit headers of
    the response.
    """

    def __init__(self, settings: PdsSettings) -> None:
        self._writes = (RateLimit(5_000, _HOUR), RateLimit(35_000, _DAY))
        self._handles = (RateLimit(10, 5 * _MINUTE), RateLimit(50, _DAY))
        self._uploads = (RateLimit(1_000, _DAY),)
        self._mails = (RateLimit(5, _HOUR), RateLimit(15, _DAY))
        self._imports = (RateLimit(100, _DAY),)
        # A refresh waits for another server.
        self._refreshes = (RateLimit(10, _MINUTE),)
        self._refreshes_of_one = (RateLimit(2, _MINUTE),)
        # By the client's address.
        self._reset_requests = (RateLimit(15, _HOUR), RateLimit(50, _DAY))
        self._resets = (RateLimit(50, 5 * _MINUTE),)
        self._email_updates = (RateLimit(50, _DAY),)
        self._deletions = (RateLimit(50, 5 * _MINUTE),)
        self._sign_ups = (RateLimit(settings.sign_up_limit, 5 * _MINUTE),)
        self._logins = (RateLimit(30, 5 * _MINUTE), RateLimit(300, _DAY))
        # Not in the reference: guesses at many accounts from one address.
        self._addresses = (RateLimit(settings.logins_per_5_minutes, 5 * _MINUTE),)

    def write(self, call: Call, did: str, intents: Sequence[Intent]) -> None:
        """Count the writes of a batch: create 3, update 2, delete 1."""
        points = sum(_POINTS[intent] for intent in intents)
        if points:
            take_points(call.request.scope, self._writes, did, points)

    def change_handle(self, call: Call, did: str) -> None:
        take_points(call.request.scope, self._handles, did)

    def upload(self, call: Call, did: str) -> None:
        take_points(call.request.scope, self._uploads, did)

    def mail(self, call: Call, did: str) -> None:
        """Count a mail to an account, by its method."""
        take_points(call.request.scope, self._mails, f"{call.nsid} {did}")

    def request_reset(self, call: Call) -> None:
        scope = call.request.scope
        take_points(scope, self._reset_requests, client_address(scope))

    def reset_password(self, call: Call) -> None:
        scope = call.request.scope
        take_points(scope, self._resets, client_address(scope))

    def update_email(self, call: Call, did: str) -> None:
        take_points(call.request.scope, self._email_updates, did)

    def import_repo(self, call: Call, did: str) -> None:
        take_points(call.request.scope, self._imports, did)

    def refresh_identity(self, call: Call, did: str, identifier: str) -> None:
        """Count by the caller, and by the identity for all callers."""
        scope = call.request.scope
        take_points(scope, self._refreshes, did)
        take_points(scope, self._refreshes_of_one, identifier.lower())

    def sign_up(self, call: Call) -> None:
        scope = call.request.scope
        take_points(scope, self._sign_ups, client_address(scope))

    def log_in(self, call: Call, account: str) -> None:
        """Count a password tried at an account, which may not exist."""
        scope = call.request.scope
        address = client_address(scope)
        take_points(scope, self._addresses, address)
        take_points(scope, self._logins, f"{address} {account[:300]}")

    def delete_account(self, call: Call) -> None:
        scope = call.request.scope
        take_points(scope, self._deletions, client_address(scope))
