"""The task that sends matches to webhooks, and the upkeep of saved searches."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Final

from mirror.match_webhooks import WebhookSender
from network.http.policy import HostLimits
from search.matches.match_log import prune_matches
from service.outgoing import make_fetcher
from service.runtime.config import Config
from storage.postgres.pool import Pool
from storage.private.feeds.feed_recipes import forget_removed_recipes
from storage.private.match_webhooks import MatchWebhook
from storage.private.private_store import PrivateStore
from storage.private.saved_searches import forget_deleted

MATCH_AGE: Final = timedelta(days=3)
MAX_MATCHES: Final = 2_000_000
"""Kept matches of all searches, about 200 bytes each."""
_LIMITS: Final = HostLimits(rate=20, burst=40, concurrency=8, max_wait=5)
_TOMBSTONE_AGE: Final = timedelta(days=1)
_ROUND_S: Final = 20.0


def send_webhooks(config: Config, pool: Pool, private: PrivateStore) -> int:
    """Send what is due, for at most 20 seconds; return the number of matches."""
    sender = WebhookSender(pool, private)
    hooks = sender.claim()
    if not hooks:
        # Without a client: most runs find nothing.
        return 0
    return asyncio.run(_send(config, sender, hooks))


async def _send(
    config: Config, sender: WebhookSender, hooks: list[MatchWebhook]
) -> int:
    sent = 0
    end = time.monotonic() + _ROUND_S
    async with make_fetcher(config, limits=_LIMITS) as fetcher:
        while hooks:
            sent += await sender.send(hooks, fetcher)
            late = time.monotonic() > end
            hooks = [] if late else await asyncio.to_thread(sender.claim)
    return sent


def prune_search_matches(pool: Pool, private: PrivateStore) -> int:
    """Delete old matches, and what is left of removed searches."""
    now = datetime.now(UTC)
    with private.write() as conn:
        forget_deleted(conn, now - _TOMBSTONE_AGE)
        forget_removed_recipes(conn, now - _TOMBSTONE_AGE)
    with pool.connection() as conn:
        return prune_matches(conn, before=now - MATCH_AGE, keep=MAX_MATCHES)
