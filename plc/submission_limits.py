"""Rate limits of operations by client address, besides those by DID."""

from __future__ import annotations

import hmac
from typing import Final

from starlette.requests import Request

from network.server.admission import admission_of
from network.server.rate_limit import RateLimit
from plc.operation_format import AnyOperation

BYPASS_HEADER: Final = "x-ratelimit-bypass"

_WINDOW_S: Final = 300.0


class SubmissionLimits:
    """Limits of new DIDs and operations of one address in five minutes.

    Requests with `bypass_key` in the `x-ratelimit-bypass` header are exempt, for a PDS
    of the same operator.
    """

    def __init__(
        self,
        new_dids: int = 100,
        operations: int = 500,
        *,
        bypass_key: str | None = None,
    ) -> None:
        self._new_dids = RateLimit(new_dids, _WINDOW_S)
        self._operations = RateLimit(operations, _WINDOW_S)
        self._bypass_key = bypass_key

    def take(self, request: Request, operation: AnyOperation) -> None:
        """Count an operation before it is verified; raise XrpcError 429."""
        if self._is_exempt(request):
            return
        admission = admission_of(request.scope)
        address = "unknown" if admission is None else admission.address
        quota = self._operations.take(address)
        if operation.prev is None:
            quota = self._new_dids.take(address)
        if admission is not None:
            admission.note(quota)

    def _is_exempt(self, request: Request) -> bool:
        given = request.headers.get(BYPASS_HEADER)
        if given is None or self._bypass_key is None:
            return False
        return hmac.compare_digest(given.encode(), self._bypass_key.encode())
