"""The HTTP client for every request to servers outside.

Addresses are checked at connect time, redirects are off or checked hop by hop, sizes
and times are capped, and each host has a budget. Proxy variables, netrc and cookies are
ignored.
"""

from __future__ import annotations

import asyncio
import io
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self, TypedDict, Unpack

import aiohttp
from multidict import CIMultiDict

from network.errors import (
    BadResponseError,
    NetworkError,
    RateLimitedError,
    TimedOutError,
)
from network.http.budget import HostBudgets, TokenBucket, parse_retry_after
from network.http.guarded_connector import AddressLookup, SystemLookup, open_connector
from network.http.policy import MAX_REDIRECTS, CallerBudget, HostLimits, Policy
from network.http.responses import (
    EXCERPT_BYTES,
    Fetched,
    Streamed,
    read_body,
    translate_error,
)
from network.http.urls import Target, follow_redirect

DEFAULT_MAX_BYTES: Final = 4_000_000
DEFAULT_USER_AGENT: Final = "Bigworld/0.1"
_MAX_HEADER_BYTES: Final = 16_384
_MAX_HEADERS: Final = 128
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
# The statuses whose Retry-After is obeyed (specs/xrpc).
_BUSY: Final = frozenset((429, 503))
_SECRET_HEADERS: Final = ("Authorization", "DPoP", "Cookie")

Headers = Mapping[str, str]


async def _refuse_redirects(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    response = await handler(request)
    if 300 <= response.status < 400:
        response.close()
        raise aiohttp.WSServerHandshakeError(
            response.request_info,
            response.history,
            status=response.status,
            message="a stream that redirects",
            headers=response.headers,
        )
    return response


class FetchOptions(TypedDict, total=False):
    """Options of a request: the cap of the body, seconds in all, headers, budget.

    `budget` replaces the host's budget.
    """

    max_bytes: int
    timeout: float | None
    headers: Headers | None
    budget: CallerBudget | None


class Fetcher:
    """The guarded client: `async with Fetcher(Policy()) as fetcher`.

    `lookup` replaces the system's name resolution, `tls` the default trust store.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        user_agent: str = DEFAULT_USER_AGENT,
        lookup: AddressLookup | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.policy = policy
        self.user_agent = user_agent
        self.budgets = HostBudgets(policy, clock)
        self.stream_dials = TokenBucket(
            policy.stream_dials_per_s, max(1, int(policy.stream_dials_per_s)), clock
        )
        self._own_lookup = SystemLookup() if lookup is None else None
        self._lookup = lookup if lookup is not None else self._own_lookup
        self._tls = tls
        self._clock = clock
        self._now = now
        self._session: aiohttp.ClientSession | None = None
        self._stream_session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = self._open_session(self.policy.max_connections)
        return self

    def _open_session(
        self, max_connections: int, *middlewares: aiohttp.ClientMiddlewareType
    ) -> aiohttp.ClientSession:
        assert self._lookup is not None
        connector = open_connector(
            self.policy, self._lookup, self._tls, max_connections
        )
        return aiohttp.ClientSession(
            connector=connector,
            middlewares=middlewares,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self.policy.connect_timeout
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self.user_agent, "Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            max_headers=_MAX_HEADERS,
            read_bufsize=2**18,
        )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for session in (self._session, self._stream_session):
            if session is not None:
                await session.close()
        self._session = self._stream_session = None
        if self._own_lookup is not None:
            self._own_lookup.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """Return the guarded session; for the other modules of this package only."""
        assert self._session is not None, "the fetcher is not open"
        return self._session

    @property
    def stream_session(self) -> aiohttp.ClientSession:
        """Return a second guarded session, for WebSockets.

        They stay open for days, so they do not share the pool of requests. Redirects
        end them, since aiohttp would follow.
        """
        assert self._session is not None, "the fetcher is not open"
        if self._stream_session is None:
            self._stream_session = self._open_session(0, _refuse_redirects)
        return self._stream_session

    def set_limits(
        self, url: str, limits: HostLimits, shared: TokenBucket | None = None
    ) -> None:
        """Give the host of `url` a budget of its own; see HostBudgets.set_limits."""
        self.budgets.set_limits(self.policy.parse(url).authority, limits, shared)

    async def get(
        self, url: str, *, redirects: int = 0, **options: Unpack[FetchOptions]
    ) -> Fetched:
        """GET a whole body, following up to 3 redirects.

        Returns Fetched for any status except 429. Raises NetworkError.
        """
        return await self._fetch("GET", url, None, redirects, **options)

    async def post(
        self, url: str, *, body: bytes, **options: Unpack[FetchOptions]
    ) -> Fetched:
        """POST `body` and read the whole response; redirects are never followed."""
        return await self._fetch("POST", url, body, 0, **options)

    @asynccontextmanager
    async def stream(
        self,
        url: str,
        *,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109
        headers: Headers | None = None,
        redirects: int = 0,
    ) -> AsyncIterator[Streamed]:
        """GET a large body in chunks: `async with … as body: async for chunk in body`.

        Raises BadResponseError with the start of the body for any status but 200. The
        peer must keep the policy's floor speed; `timeout` (default an hour) bounds the
        whole.
        """
        limit = self.policy.stream_timeout if timeout is None else timeout
        try:
            async with (
                asyncio.timeout(limit) as deadline,
                self._exchange(
                    "GET",
                    url,
                    None,
                    headers,
                    redirects,
                    silence=self.policy.floor_window,
                ) as (target, response),
            ):
                if response.status != 200:
                    body = await self._excerpt(response)
                    raise BadResponseError(
                        f"{target} answered {response.status}", response.status, body
                    )
                yield Streamed(target, response, max_bytes, self.policy, self._clock)
        except TimeoutError as error:
            if deadline.expired():
                raise TimedOutError(f"{url} took over {limit} seconds") from error
            raise

    async def _fetch(
        self,
        method: str,
        url: str,
        body: bytes | None,
        redirects: int,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        timeout: float | None = None,  # noqa: ASYNC109 - one deadline over all hops
        headers: Headers | None = None,
        budget: CallerBudget | None = None,
    ) -> Fetched:
        limit = self.policy.total_timeout if timeout is None else timeout
        try:
            async with (
                asyncio.timeout(None) as deadline,
                self._exchange(
                    method, url, body, headers, redirects, deadline, limit, None, budget
                ) as (target, response),
            ):
                read = await read_body(response, max_bytes)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise translate_error(error, url) from error
        return Fetched(str(target), response.status, response.headers, read)

    @asynccontextmanager
    async def _exchange(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Headers | None,
        redirects: int,
        deadline: asyncio.Timeout | None = None,
        limit: float = 0.0,
        silence: float | None = None,
        budget: CallerBudget | None = None,
    ) -> AsyncIterator[tuple[Target, aiohttp.ClientResponse]]:
        """Make one exchange with its redirects; hold the host's slot until the end.

        `deadline` starts when the first slot is held: time spent waiting for our own
        budget does not count against the peer.
        """
        target = self.policy.parse(url)
        sent = CIMultiDict(headers or {})
        hops = min(redirects, MAX_REDIRECTS)
        while True:
            async with self.budgets.slot(target.authority, budget):
                if deadline is not None and deadline.when() is None:
                    deadline.reschedule(asyncio.get_running_loop().time() + limit)
                response = await self._send(method, target, body, sent, silence)
                try:
                    if budget is None:
                        self._learn(target, response)
                    location = response.headers.get("Location")
                    if (
                        response.status not in _REDIRECTS
                        or location is None
                        or redirects == 0
                    ):
                        yield target, response
                        return
                finally:
                    # Never reuse a connection whose body was left unread.
                    response.close()
            if hops == 0:
                raise BadResponseError(f"{url} redirects too often", response.status)
            hops -= 1
            following = follow_redirect(
                target, location, allow_loopback=self.policy.allow_loopback
            )
            if following.origin != target.origin:
                for name in _SECRET_HEADERS:
                    sent.popall(name, None)
            target = following

    async def _send(
        self,
        method: str,
        target: Target,
        body: bytes | None,
        headers: CIMultiDict[str],
        silence: float | None,
    ) -> aiohttp.ClientResponse:
        policy = self.policy
        try:
            async with asyncio.timeout(
                policy.connect_timeout + policy.first_byte_timeout
            ):
                return await self.session.request(
                    method,
                    target.to_yarl(),
                    data=io.BytesIO(body) if body else body,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(
                        total=None,
                        sock_connect=policy.connect_timeout,
                        sock_read=silence or policy.first_byte_timeout,
                    ),
                )
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise translate_error(error, str(target)) from error

    def _learn(self, target: Target, response: aiohttp.ClientResponse) -> None:
        if response.status not in _BUSY:
            return
        if response.status == 503 and "Retry-After" not in response.headers:
            return
        wait = parse_retry_after(
            response.headers,
            now=self._now(),
            default=self.policy.default_retry_after,
            cap=self.policy.max_retry_after,
        )
        self.budgets.pause(target.authority, wait)
        if response.status == 429:
            raise RateLimitedError(f"{target.host} asked us to wait {wait:.0f} s", wait)

    @staticmethod
    async def _excerpt(response: aiohttp.ClientResponse) -> bytes:
        try:
            return await read_body(response, EXCERPT_BYTES)
        except (NetworkError, TimeoutError, aiohttp.ClientError, OSError):
            return b""
