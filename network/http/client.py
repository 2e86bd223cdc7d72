"""The one HTTP client through which every request to the outside goes.

Addresses are checked when a connection is made, redirects are off or checked hop by
hop, sizes and times are capped, and each host has a budget. Nothing is taken from
proxy variables, netrc or cookies.
"""

from __future__ import annotations

import asyncio
import io
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy

from network.errors import (
    BadResponseError,
    ForbiddenAddressError,
    NetworkError,
    RateLimitedError,
    TimedOutError,
    TooLargeError,
    UnreachableError,
)
from network.http.budget import HostBudgets, TokenBucket, parse_retry_after
from network.http.guarded_connector import (
    AddressLookup,
    ForbiddenSocketError,
    SystemLookup,
    open_connector,
)
from network.http.inflate import BodyReader
from network.http.policy import (
    MAX_REDIRECTS,
    CallerBudget,
    HostLimits,
    Policy,
)
from network.http.urls import Target, follow_redirect
from protocol.data import json_form
from protocol.errors import ProtocolError

DEFAULT_MAX_BYTES: Final = 4_000_000
DEFAULT_USER_AGENT: Final = "Bigworld/0.1"
_EXCERPT_BYTES: Final = 4_096
_MAX_HEADER_BYTES: Final = 16_384
_MAX_HEADERS: Final = 128
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
# Of these statuses a Retry-After is believed (specs/xrpc).
_BUSY: Final = frozenset((429, 503))
_SECRET_HEADERS: Final = ("Authorization", "DPoP", "Cookie")

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole answer. `url` is where it came from, after redirects."""

    url: str
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> Any:
        """The body as strict JSON; BadResponseError if it is not."""
        try:
            # The size was capped when the body was read.
            return json_form.loads(self.body, max_bytes=len(self.body))
        except ProtocolError as error:
            raise BadResponseError(
                f"{self.url} did not answer JSON: {error}",
                self.status,
                self.body[:_EXCERPT_BYTES],
            ) from error


class Streamed:
    """An answer whose body is read in chunks, once: `async for chunk in streamed`."""

    def __init__(
        self,
        target: Target,
        response: aiohttp.ClientResponse,
        max_bytes: int,
        policy: Policy,
        clock: Callable[[], float],
    ) -> None:
        self.url = str(target)
        self.status = response.status
        self.headers = response.headers
        self._response = response
        self._max_bytes = max_bytes
        self._policy = policy
        self._clock = clock

    async def __aiter__(self) -> AsyncIterator[bytes]:
        reader = _open_body(self._response, self._max_bytes)
        waited, received = 0.0, 0
        window = self._policy.floor_window
        while True:
            # Only the time spent waiting for the peer counts: a slow consumer of
            # ours is no fault of the host.
            before = self._clock()
            try:
                async with asyncio.timeout(window):
                    chunk = await self._response.content.readany()
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                raise translate(error, self.url) from error
            waited += self._clock() - before
            received += len(chunk)
            if not chunk:
                break
            if waited >= window:
                if received < self._policy.floor_bytes_per_s * window:
                    raise TimedOutError(f"{self.url} sends too slowly")
                waited, received = 0.0, 0
            for piece in reader.feed(chunk):
                yield piece
        reader.finish()


def _open_body(response: aiohttp.ClientResponse, max_bytes: int) -> BodyReader:
    length = response.content_length
    if length is not None and length > max_bytes:
        raise TooLargeError(f"body of {length} bytes is over {max_bytes}")
    encoding = response.headers.get("Content-Encoding", "")
    return BodyReader(encoding, max_bytes, response.status)


async def _read_body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    reader = _open_body(response, max_bytes)
    pieces: list[bytes] = []
    while chunk := await response.content.readany():
        pieces += reader.feed(chunk)
    reader.finish()
    return b"".join(pieces)


def translate(error: BaseException, url: str) -> NetworkError:
    """The NetworkError for an exception of aiohttp or the socket."""
    if isinstance(error, NetworkError):
        return error
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(
        error.os_error, ForbiddenSocketError
    ):
        return ForbiddenAddressError(str(error.os_error))
    if isinstance(error, TimeoutError):
        return TimedOutError(f"{url} was too slow")
    if isinstance(error, aiohttp.InvalidURL):
        return ForbiddenAddressError(f"not a URL we fetch: {url[:200]!r}")
    if isinstance(error, aiohttp.ClientResponseError):
        return BadResponseError(f"{url}: {error.message}", error.status)
    return UnreachableError(f"{url}: {type(error).__name__}: {error}")


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


class Fetcher:
    """An async context manager: `async with Fetcher(Policy()) as fetcher`.

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
        """The guarded session; for the other modules of this package only."""
        assert self._session is not None, "the fetcher is not open"
        return self._session

    @property
    def stream_session(self) -> aiohttp.ClientSession:
        """A second guarded session, for WebSockets.

        They stay open for days, so they have no share in the pool of requests, and
        redirects end them: aiohttp would follow.
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
        self,
        url: str,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        timeout: float | None = None,  # noqa: ASYNC109 - one deadline over all hops
        headers: Headers | None = None,
        redirects: int = 0,
        budget: CallerBudget | None = None,
    ) -> Fetched:
        """GET a whole body of at most `max_bytes`, following up to 3 redirects.

        Any status comes back as Fetched, except 429: RateLimitedError. Other
        errors: the NetworkError tree. `budget` is spent instead of the host's.
        """
        return await self._fetch(
            "GET", url, None, max_bytes, timeout, headers, redirects, budget
        )

    async def post(
        self,
        url: str,
        *,
        body: bytes,
        max_bytes: int = DEFAULT_MAX_BYTES,
        timeout: float | None = None,  # noqa: ASYNC109
        headers: Headers | None = None,
        budget: CallerBudget | None = None,
    ) -> Fetched:
        """POST `body` and read the whole answer; redirects are never followed."""
        return await self._fetch(
            "POST", url, body, max_bytes, timeout, headers, 0, budget
        )

    async def get_json(
        self,
        url: str,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        timeout: float | None = None,  # noqa: ASYNC109
        headers: Headers | None = None,
        redirects: int = 0,
    ) -> Any:
        """GET strict JSON; any status but 200 is a BadResponseError."""
        fetched = await self.get(
            url,
            max_bytes=max_bytes,
            timeout=timeout,
            headers=headers,
            redirects=redirects,
        )
        if fetched.status != 200:
            raise BadResponseError(
                f"{url} answered {fetched.status}",
                fetched.status,
                fetched.body[:_EXCERPT_BYTES],
            )
        return fetched.json()

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

        Statuses other than 200 raise BadResponseError with the start of the body.
        The peer must keep the policy's floor speed; `timeout` (default an hour)
        bounds the whole.
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
        max_bytes: int,
        limit: float | None,
        headers: Headers | None,
        redirects: int,
        budget: CallerBudget | None,
    ) -> Fetched:
        limit = self.policy.total_timeout if limit is None else limit
        try:
            async with (
                asyncio.timeout(None) as deadline,
                self._exchange(
                    method, url, body, headers, redirects, deadline, limit, None, budget
                ) as (target, response),
            ):
                read = await _read_body(response, max_bytes)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise translate(error, url) from error
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
        """One exchange with its redirects; holds the host's slot until the end.

        The clock of `deadline` starts when the first slot is held: waiting for our
        own budget is not the peer's slowness.
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
            raise translate(error, str(target)) from error

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
            return await _read_body(response, _EXCERPT_BYTES)
        except (NetworkError, TimeoutError, aiohttp.ClientError, OSError):
            return b""
