"""Delivery of matches to webhooks: signed batches, in order, once or again.

A batch is sent again until the webhook replies with 2xx. Failures wait longer each
time; after a day of failures the webhook is stopped.
"""

from __future__ import annotations

import asyncio
import hmac
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, Protocol, TypeVar, Unpack

import anyio
import orjson
import structlog

from appview.takedowns import TakedownCache
from crawler.backoff import full_jitter
from mirror.match_events import load_shown
from network.errors import NetworkError, RateLimitedError
from network.http.client import FetchOptions
from network.http.responses import Fetched
from search.matches.match_log import Match, find_next, load_tail, matches_of
from storage.postgres.pool import Conn, Pool
from storage.private.match_webhooks import (
    MatchWebhook,
    claim_webhooks,
    put_off,
    save_delivery,
    save_failure,
)
from storage.private.private_store import PrivateStore
from storage.private.takedowns import NOTHING, TakenDown

log = structlog.get_logger(__name__)

SIGNATURE: Final = "Bigworld-Signature"
BATCH_MATCHES: Final = 100
BATCH_BYTES: Final = 500_000
_CLAIMED: Final = 100
_MOST_CLAIMS: Final = 200
_AT_ONCE: Final = 16
_LEASE: Final = timedelta(seconds=120)
_IDLE: Final = timedelta(seconds=2)
_TIMEOUT_S: Final = 10.0
_MAX_REPLY: Final = 10_000
_FIRST_WAIT_S: Final = 5.0
_LONGEST_WAIT_S: Final = 3_600.0

R = TypeVar("R")


class Poster(Protocol):
    """The guarded client, as far as it is used here."""

    async def post(
        self, url: str, *, body: bytes, **options: Unpack[FetchOptions]
    ) -> Fetched: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Matches for one request; `last` is the number of the last one that was read."""

    body: bytes
    count: int
    last: int


class WebhookSender:
    """Sends what is due. `now` and `draw` are for tests."""

    def __init__(
        self,
        pool: Pool,
        private: PrivateStore,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._pool = pool
        self._private = private
        self._takedowns = TakedownCache()
        self._now = now
        self._draw = draw

    def claim(self) -> list[MatchWebhook]:
        """Return webhooks that are due and have matches; put the others off."""
        for _ in range(_MOST_CLAIMS):
            now = self._now()
            with self._private.write() as conn:
                claimed = claim_webhooks(conn, now, _LEASE, _CLAIMED)
            if not claimed:
                break
            with self._pool.connection() as conn:
                found = find_next(
                    conn, {hook.search: hook.position for hook in claimed}
                )
            idle = [hook.search for hook in claimed if hook.search not in found]
            with self._private.write() as conn:
                put_off(conn, idle, now + _IDLE)
            if found:
                return [hook for hook in claimed if hook.search in found]
        return []

    async def send(self, hooks: Collection[MatchWebhook], client: Poster) -> int:
        """Send one batch to each of these webhooks; return the number of matches."""
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(hook: MatchWebhook) -> int:
            async with slots:
                return await self._deliver(hook, client)

        return sum(await asyncio.gather(*map(one, hooks)))

    async def _deliver(self, hook: MatchWebhook, client: Poster) -> int:
        batch = await _in_thread(lambda: self._read(hook))
        count = 0
        if batch.count:
            failure, wait_s = await self._post(hook, client, batch.body)
            if wait_s is not None:
                await _in_thread(lambda: self._wait(hook, wait_s))
                return 0
            if failure is not None:
                await _in_thread(lambda: self._fail(hook, failure))
                return 0
            count = batch.count
        await _in_thread(lambda: self._advance(hook, batch.last))
        return count

    async def _post(
        self, hook: MatchWebhook, client: Poster, body: bytes
    ) -> tuple[str | None, float | None]:
        """Send a batch; return a failure, or the seconds to wait for our own limit."""
        moment = int(self._now().timestamp())
        headers = {
            "Content-Type": "application/json",
            SIGNATURE: sign(hook.secret, moment, body),
        }
        options: FetchOptions = {
            "max_bytes": _MAX_REPLY,
            "timeout": _TIMEOUT_S,
            "headers": headers,
        }
        try:
            reply = await client.post(hook.url, body=body, **options)
        except RateLimitedError as error:
            return None, error.retry_after
        except NetworkError as error:
            return str(error) or type(error).__name__, None
        if 200 <= reply.status < 300:
            return None, None
        return f"the webhook replied with {reply.status}", None

    def _read(self, hook: MatchWebhook) -> Batch:
        taken = self._takedowns.current(self._private)
        with self._pool.connection() as conn:
            return read_batch(conn, hook, taken)

    def _advance(self, hook: MatchWebhook, last: int) -> None:
        with self._private.write() as conn:
            save_delivery(conn, hook, last, self._now())

    def _wait(self, hook: MatchWebhook, seconds: float) -> None:
        with self._private.write() as conn:
            put_off(conn, [hook.search], self._now() + timedelta(seconds=seconds))

    def _fail(self, hook: MatchWebhook, failure: str) -> None:
        wait = full_jitter(
            hook.failures + 1,
            base=_FIRST_WAIT_S,
            cap=_LONGEST_WAIT_S,
            draw=self._draw,
        )
        now = self._now()
        with self._private.write() as conn:
            stopped = save_failure(
                conn, hook, failure, now, now + timedelta(seconds=wait)
            )
        event = "webhook_stopped" if stopped else "webhook_failed"
        log.warning(event, search=hook.search, why=failure)


def sign(secret: bytes, moment: int, body: bytes) -> str:
    """Return the value of the signature header: time, and HMAC of time and body."""
    digest = hmac.new(secret, b"%d." % moment + body, sha256).hexdigest()
    return f"t={moment},v1={digest}"


def read_batch(conn: Conn, hook: MatchWebhook, taken: TakenDown = NOTHING) -> Batch:
    """Return the next matches of a webhook's search as the body of a request."""
    tail = load_tail(conn)
    found = matches_of(conn, [hook.search], hook.position, tail, BATCH_MATCHES)
    shown, read = load_shown(conn, found, taken)
    parts: list[bytes] = []
    size = 0
    last = _last_of(found[:read], tail, len(found) < BATCH_MATCHES)
    for match in shown:
        part = orjson.dumps(match.json())
        if parts and size + len(part) > BATCH_BYTES:
            break
        parts.append(part)
        size += len(part)
    else:
        return Batch(_body(hook.search, parts), len(parts), last)
    last = shown[len(parts) - 1].match.number
    return Batch(_body(hook.search, parts), len(parts), last)


def _last_of(read: Sequence[Match], tail: int, is_end: bool) -> int:
    if not read:
        return tail if is_end else 0
    return read[-1].number


def _body(search: int, parts: Sequence[bytes]) -> bytes:
    return b'{"search":"%d","matches":[%b]}' % (search, b",".join(parts))


async def _in_thread(work: Callable[[], R]) -> R:
    return await anyio.to_thread.run_sync(work)
