"""Service proxying of methods that this server does not have (specs/xrpc).

The target is that of the `atproto-proxy` header, else the account's default indexer,
else the server's. Its DID document names its endpoint. The account's key signs a token
for the account, the target and the one method.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from starlette.responses import Response

from network.errors import (
    ForbiddenAddressError,
    IdentityError,
    NetworkError,
    RateLimitedError,
    TimedOutError,
    TooLargeError,
    XrpcError,
)
from network.http.client import Fetcher
from network.http.policy import CallerBudget, HostLimits
from network.http.responses import Fetched
from network.identity.resolver import IdentityResolver
from network.server.rate_limit import uncount
from network.xrpc.server import Reply
from pds.exceptions import (
    InvalidRequestError,
    UpstreamFailureError,
    UpstreamTimeoutError,
)
from pds.settings import PdsSettings
from protocol.errors import InvalidSyntaxError
from protocol.identity.keys import PrivateKey
from protocol.identity.service_auth import create_service_jwt
from protocol.syntax import Did, Nsid, parse_did

PROXY_HEADER: Final = "atproto-proxy"
MAX_REQUEST_BYTES: Final = 2_097_152
MAX_SERVICE_ID_CHARS: Final = 64

# No other headers are forwarded: no cookies, tokens or addresses.
_REQUEST_HEADERS: Final = (
    "accept-language",
    "atproto-accept-labelers",
    "content-type",
    "x-bsky-topics",
)
_REQUEST_PREFIX: Final = "x-atproto-"
_MAX_PREFIXED: Final = 16
_RESPONSE_HEADERS: Final = (
    "content-type",
    "content-language",
    "atproto-repo-rev",
    "atproto-content-labelers",
    "retry-after",
    "ratelimit-limit",
    "ratelimit-policy",
    "ratelimit-remaining",
    "ratelimit-reset",
)

# A page of another server must not run under this origin.
_INERT: Final = {
    "content-security-policy": "default-src 'none'; sandbox",
    "x-content-type-options": "nosniff",
}

# One account's share of each service: enough for a busy client, not for a scraper.
_CALLER_LIMITS: Final = HostLimits(rate=30.0, burst=200, concurrency=16, max_wait=5.0)
_MAX_CALLS: Final = 256
_MAX_CALLS_TO_ONE: Final = 128
_MAX_CALLS_OF_ONE: Final = 32

# Methods about the account itself. A service with a token for one could act as the
# account on this server, so they are not forwarded and get no tokens.
PROTECTED_METHODS: Final = frozenset(
    f"com.atproto.{name}"
    for name in [
        "admin.sendEmail",
        "identity.requestPlcOperationSignature",
        "identity.signPlcOperation",
        "identity.updateHandle",
        "server.activateAccount",
        "server.confirmEmail",
        "server.createAppPassword",
        "server.deactivateAccount",
        "server.getAccountInviteCodes",
        "server.getSession",
        "server.listAppPasswords",
        "server.requestAccountDelete",
        "server.requestEmailConfirmation",
        "server.requestEmailUpdate",
        "server.revokeAppPassword",
        "server.updateEmail",
    ]
)


@dataclass(frozen=True, slots=True)
class ServiceRef:
    """A service of a DID: `did#fragment`."""

    did: Did
    fragment: str

    def __str__(self) -> str:
        return f"{self.did}#{self.fragment}"


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """The forwarded parts of a client's request; `body` None means GET.

    `caller` is the account's DID, or the address of a client without a login.
    """

    nsid: str
    query: str
    headers: Mapping[str, str]
    body: bytes | None
    caller: str


@dataclass(frozen=True, slots=True)
class ProxyAnswer:
    """The forwarded parts of a provider's response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def response(self) -> Response:
        return Response(self.body, self.status, dict(self.headers))

    def reply(self) -> Reply:
        """Return the response as the Reply of a handler."""
        headers = dict(self.headers)
        return Reply(
            self.body,
            headers,
            self.status,
            content_type=headers.pop("content-type", None),
        )


def parse_service_ref(text: str) -> ServiceRef:
    """Parse `did#fragment` with exactly one '#'. Raises InvalidRequestError."""
    did, sharp, fragment = text.partition("#")
    if not sharp or not fragment or "#" in fragment:
        raise InvalidRequestError("a service must be given as did#serviceId")
    if len(fragment) > MAX_SERVICE_ID_CHARS or not _is_fragment(fragment):
        raise InvalidRequestError("service id has characters that none may have")
    try:
        return ServiceRef(parse_did(did), fragment)
    except InvalidSyntaxError as error:
        raise InvalidRequestError(f"service DID: {error}") from error


class _UpstreamSlots:
    """The calls in progress: in all, to each service and of each caller.

    Neither a slow service nor one caller can hold all slots.
    """

    def __init__(self) -> None:
        self._by_service: Counter[str] = Counter()
        self._by_caller: Counter[str] = Counter()

    @contextmanager
    def hold(self, endpoint: str, caller: str) -> Iterator[None]:
        """Hold a slot. Raises XrpcError 429 or 503 if none is free."""
        if self._by_caller[caller] >= _MAX_CALLS_OF_ONE:
            raise _busy("RateLimitExceeded", "too many calls at once", 429)
        full = self._by_service.total() >= _MAX_CALLS
        if full or self._by_service[endpoint] >= _MAX_CALLS_TO_ONE:
            raise _busy("NotEnoughResources", "the service has too many calls", 503)
        self._by_service[endpoint] += 1
        self._by_caller[caller] += 1
        try:
            yield
        finally:
            uncount(self._by_service, endpoint)
            uncount(self._by_caller, caller)


def _busy(name: str, message: str, status: int) -> XrpcError:
    return XrpcError(name, message, status, {"Retry-After": "1"})


class ServiceProxy:
    """The proxy for accounts of one server."""

    def __init__(
        self,
        settings: PdsSettings,
        fetcher: Fetcher,
        identity: IdentityResolver,
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._fetcher = fetcher
        self._identity = identity
        self._now = now
        default = settings.default_indexer
        self._default = None if default is None else parse_service_ref(default)
        self._slots = _UpstreamSlots()

    def choose(self, header: str | None, preferred: str | None) -> ServiceRef:
        """Return the target of a call. Raises InvalidRequestError for a bad header."""
        if header is not None:
            return parse_service_ref(header)
        if preferred is not None:
            return parse_service_ref(preferred)
        if self._default is None:
            raise XrpcError("MethodNotImplemented", "Method Not Implemented", 501)
        return self._default

    @property
    def moderation(self) -> str | None:
        """Return the server's service of reports and moderation."""
        return self._settings.moderation_service

    @property
    def default(self) -> ServiceRef | None:
        """Return the server's own default indexer."""
        return self._default

    def service_token(
        self,
        target: ServiceRef,
        nsid: Nsid,
        did: Did,
        key: PrivateKey,
        *,
        audience: str | None = None,
    ) -> str:
        """Return the token for a call of `nsid` at `target`, or at `audience`."""
        if audience is None:
            with_id = self._settings.proxy_audience_fragment
            audience = str(target) if with_id else target.did
        return create_service_jwt(
            iss=did, aud=audience, lxm=nsid, key=key, now=int(self._now().timestamp())
        )

    async def forward(
        self, target: ServiceRef, request: ProxyRequest, token: str | None
    ) -> ProxyAnswer:
        """Call `target` and return its response.

        Raises InvalidRequestError if the target cannot be found or may not be called,
        UpstreamFailureError or UpstreamTimeoutError if it does not respond.
        """
        endpoint = await self._endpoint(target)
        url = f"{endpoint}/xrpc/{request.nsid}"
        if request.query:
            url += f"?{request.query}"
        headers = {
            name: request.headers[name]
            for name in _REQUEST_HEADERS
            if name in request.headers
        }
        prefixed = [n for n in request.headers if n.startswith(_REQUEST_PREFIX)]
        headers |= {name: request.headers[name] for name in prefixed[:_MAX_PREFIXED]}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        try:
            with self._slots.hold(endpoint, request.caller):
                fetched = await self._send(url, headers, request)
        except RateLimitedError as error:
            raise XrpcError(
                "RateLimitExceeded",
                "too many requests to this service",
                429,
                {"Retry-After": str(max(1, round(error.retry_after)))},
            ) from error
        except TimedOutError as error:
            raise UpstreamTimeoutError("upstream service timed out") from error
        except TooLargeError as error:
            raise UpstreamFailureError("upstream response is too large") from error
        except ForbiddenAddressError as error:
            raise InvalidRequestError("the service is at a forbidden address") from (
                error
            )
        except NetworkError as error:
            raise UpstreamFailureError("upstream service unreachable") from error
        return _answer(fetched)

    async def _send(
        self, url: str, headers: Mapping[str, str], request: ProxyRequest
    ) -> Fetched:
        call = self._fetcher.get
        if request.body is not None:
            call = partial(self._fetcher.post, body=request.body)
        return await call(
            url,
            headers=headers,
            max_bytes=self._settings.max_proxy_response_bytes,
            timeout=self._settings.proxy_timeout,
            budget=CallerBudget(request.caller, _CALLER_LIMITS),
        )

    async def _endpoint(self, target: ServiceRef) -> str:
        configured = self._settings.default_indexer_url
        if configured is not None and target == self._default:
            return configured.rstrip("/")
        if target.did == self._settings.service_did:
            raise InvalidRequestError("a server does not proxy to itself")
        try:
            document = await self._identity.resolve_did(target.did)
        except (IdentityError, NetworkError) as error:
            raise InvalidRequestError(
                f"could not resolve proxy did: {target.did}"
            ) from error
        service = document.service(target.fragment)
        if service is None:
            raise InvalidRequestError(f"could not resolve proxy did service: {target}")
        if urlsplit(service.endpoint).netloc.lower() == self._settings.host:
            raise InvalidRequestError("a server does not proxy to itself")
        return service.endpoint.rstrip("/")


def _answer(fetched: Fetched) -> ProxyAnswer:
    if fetched.status == 500:
        raise UpstreamFailureError("upstream service failed")
    if 300 <= fetched.status < 400:
        raise UpstreamFailureError("upstream service redirects")
    headers = {
        name: fetched.headers[name]
        for name in _RESPONSE_HEADERS
        if name in fetched.headers
    }
    return ProxyAnswer(fetched.status, headers | _INERT, fetched.body)


def _is_fragment(text: str) -> bool:
    return text.isascii() and all(c.isalnum() or c in "-._~:%" for c in text)
