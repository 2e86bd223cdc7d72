"""The client of the PLC directory for the accounts of this server."""

from __future__ import annotations

from typing import Any, Final

import orjson

from network.errors import NetworkError, XrpcError
from network.http.client import Fetcher
from network.http.policy import CallerBudget, HostLimits
from network.http.responses import Fetched
from pds.exceptions import InvalidRequestError, UpstreamFailureError
from plc.operation_document import operation_document
from plc.operation_draft import create_update
from plc.operation_format import (
    LegacyCreate,
    Operation,
    PlcService,
    Tombstone,
    normalize,
    operation_json,
    parse_operation,
)
from protocol.errors import ProtocolError
from protocol.identity.did_document import PDS_SERVICE, PDS_TYPE, SIGNING_KEY
from protocol.identity.keys import PrivateKey
from protocol.syntax import Did

_SIGNING: Final = SIGNING_KEY.removeprefix("#")
_MAX_RESPONSE_BYTES: Final = 65_536
# Of a log of thousands of operations.
_MAX_LOG_BYTES: Final = 8 * 1024 * 1024
_EXCERPT_CHARS: Final = 300
# The directory limits operations by DID: a 429 pauses only that DID.
_LIMITS_OF_ONE_DID: Final = HostLimits(rate=1.0, burst=10, concurrency=2, max_wait=5.0)


class Directory:
    """The operation logs of a PLC directory.

    Raises InvalidRequestError with the directory's message for a refused operation,
    XrpcError 429 for a DID with too many operations, UpstreamFailureError for other
    failures.
    """

    def __init__(
        self, plc_url: str, fetcher: Fetcher, *, bypass_key: str | None = None
    ) -> None:
        self._url = plc_url.rstrip("/")
        self._fetcher = fetcher
        self._headers = {"content-type": "application/json"}
        if bypass_key is not None:
            self._headers["x-ratelimit-bypass"] = bypass_key

    async def submit(self, did: Did, operation: Operation | Tombstone) -> None:
        """Append a signed operation to the log of `did`."""
        try:
            fetched = await self._fetcher.post(
                f"{self._url}/{did}",
                body=orjson.dumps(operation_json(operation)),
                headers=self._headers,
                max_bytes=_MAX_RESPONSE_BYTES,
                budget=CallerBudget(did, _LIMITS_OF_ONE_DID),
            )
        except NetworkError as error:
            raise UpstreamFailureError(f"PLC directory: {error}") from error
        _require_success(fetched)

    async def change_handle(self, did: Did, handle: str, signer: PrivateKey) -> None:
        """Replace the handle in the identity of `did`."""
        last = await self.last_operation(did)
        try:
            operation = create_update(last, signer, handle=handle)
        except ProtocolError as error:
            raise UpstreamFailureError(f"PLC operation: {error}") from error
        await self.submit(did, operation)

    async def last_operation(self, did: Did) -> Operation | LegacyCreate:
        """Return the newest operation of `did`."""
        try:
            fetched = await self._fetcher.get(
                f"{self._url}/{did}/log/last",
                max_bytes=_MAX_RESPONSE_BYTES,
                budget=CallerBudget(did, _LIMITS_OF_ONE_DID),
            )
            _require_success(fetched)
            operation = parse_operation(fetched.json())
        except (NetworkError, ProtocolError) as error:
            raise UpstreamFailureError(f"PLC directory: {error}") from error
        if isinstance(operation, Tombstone):
            raise UpstreamFailureError("the identity is tombstoned")
        return operation

    async def past_signing_keys(self, did: Did) -> set[str]:
        """Return every did:key that was ever the signing key of `did`."""
        lines = await self.audit_log(did)
        try:
            operations = [parse_operation(line["operation"]) for line in lines]
        except (ProtocolError, LookupError, TypeError) as error:
            raise UpstreamFailureError(f"PLC directory: {error}") from error
        states = [normalize(op) for op in operations if not isinstance(op, Tombstone)]
        keys = {state.verification_methods.get(_SIGNING) for state in states}
        return {key for key in keys if key is not None}

    async def audit_log(self, did: Did) -> Any:
        """Return the whole log of `did` as JSON, not verified."""
        try:
            fetched = await self._fetcher.get(
                f"{self._url}/{did}/log/audit",
                max_bytes=_MAX_LOG_BYTES,
                budget=CallerBudget(did, _LIMITS_OF_ONE_DID),
            )
            _require_success(fetched)
            return fetched.json()
        except (NetworkError, ProtocolError) as error:
            raise UpstreamFailureError(f"PLC directory: {error}") from error


def local_document(
    did: str, handle: str, signing_did_key: str, origin: str
) -> dict[str, Any]:
    """Return the DID document as this server knows it, without the directory."""
    return operation_document(
        Did(did),
        Operation(
            rotation_keys=(),
            verification_methods={_SIGNING: signing_did_key},
            also_known_as=(f"at://{handle}",),
            services={PDS_SERVICE.removeprefix("#"): PlcService(PDS_TYPE, origin)},
            prev=None,
        ),
    )


def _require_success(fetched: Fetched) -> None:
    if fetched.status == 200:
        return
    text = fetched.body.decode("utf-8", "replace")[:_EXCERPT_CHARS]
    message = f"PLC directory answered {fetched.status}: {text}"
    if fetched.status == 429:
        wait = fetched.headers.get("Retry-After", "60")
        raise XrpcError("RateLimitExceeded", message, 429, {"Retry-After": wait})
    if 400 <= fetched.status < 500:
        raise InvalidRequestError(message)
    raise UpstreamFailureError(message)
