"""The page of a host, for its operator, with the button “Crawl again”."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote, urlsplit

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from crawler.hosts.discovery import AskedAgain, crawl_again
from crawler.settings import MIB, CrawlSettings
from network.server.admission import client_key
from network.server.rate_limit import RateLimit
from network.server.shared_buckets import SharedBuckets
from network.xrpc.server import XrpcError
from service.web.status import BENIGN
from storage.hosts import host_rows
from storage.hosts.host_budget import accounts_allowed
from storage.hosts.host_report import MOST_COUNTED, HostFacts, host_report
from storage.hosts.host_rows import (
    HOST_BANNED,
    HOST_NEW,
    HOST_OFFLINE,
    HOST_POLLING,
    HOST_RECHECK,
    HOST_RELAYED,
    HOST_STREAMING,
    HOST_THROTTLED,
    RECONNECTING,
)
from storage.postgres.pool import Pool

Endpoint = Callable[[Request], Any]

# Limits of the button, which is open to everyone.
_PRESSES: Final = 10
_WINDOW_S: Final = 100.0
_LONGEST_NAME: Final = 253

ANSWERS: Final = {
    AskedAgain.QUEUED: "Crawl requested: all repos of this host will be compared with "
    "the index, starting within a minute.",
    AskedAgain.ALREADY: "A crawl was requested a short while ago and is running or "
    "done.",
    AskedAgain.LATER: "Crawl requested: all repos of this host will be compared with "
    "the index when its throttling ends.",
    AskedAgain.BANNED: "The operator of this index has banned this host.",
}

STATES: Final = {
    HOST_NEW: "New host; it is crawled next.",
    HOST_STREAMING: "Its event stream is open: changes appear here at once.",
    HOST_POLLING: "It is quiet: its list of repos is polled from time to time. When it "
    "gets busy, its stream is opened.",
    HOST_RELAYED: "A relay forwards its events; only whole repos are fetched from it.",
    HOST_THROTTLED: "It sent too many invalid messages and is not contacted for a "
    "while.",
    HOST_OFFLINE: "It did not answer. Its indexed records are still shown.",
    HOST_RECHECK: "Its sequence numbers went back: its stream is read from the tip, "
    "and all its repos are compared.",
    RECONNECTING: "Its stream does not open. It is retried, and continues from the "
    "last event.",
    HOST_BANNED: "Banned by the operator of this index. It is never contacted.",
}


class HostPages:
    """The page of a host and its button."""

    def __init__(
        self,
        pool: Pool,
        settings: CrawlSettings,
        threads: CapacityLimiter,
        shared: SharedBuckets | None = None,
    ) -> None:
        self._pool = pool
        self._threads = threads
        self._settings = settings
        buckets = shared and shared.named("host page")
        self._presses = RateLimit(_PRESSES, _WINDOW_S, buckets=buckets)

    def routes(self, show: Endpoint) -> Sequence[BaseRoute]:
        """Return the routes of the page, rendered by `show`, and of its button."""
        return [
            Route("/host/{hostname}", show),
            Route("/host/{hostname}/crawl", self.crawl, methods=["POST"]),
        ]

    def page(self, request: Request) -> dict[str, Any]:
        """Return the values of the template."""
        name = request.path_params["hostname"]
        with self._pool.connection() as conn:
            report = None
            if _may_be_known(name):
                report = host_report(conn, name, most=MOST_COUNTED)
        if report is None:
            raise XrpcError("NotFound", f"unknown host: {name[:80]!r}", 404)
        facts = report.facts
        asked = request.query_params.get("asked", "")
        return {
            "title": facts.hostname,
            "host": facts,
            "report": report,
            "state_text": STATES.get(facts.shown_state, ""),
            "next": next_look(facts, self._settings),
            "limits": self._limits(facts),
            "strike_limit": self._settings.strike_limit,
            "benign": BENIGN,
            "most": MOST_COUNTED,
            "answer": ANSWERS.get(AskedAgain(asked)) if asked in ANSWERS else None,
            "may_ask": facts.state != HOST_BANNED,
        }

    def _limits(self, facts: HostFacts) -> list[tuple[str, str]]:
        settings = self._settings
        own = facts.source == host_rows.SOURCE_CONFIGURED
        per_day = facts.accounts_per_day
        if per_day is None and not own:
            per_day = accounts_allowed(
                (facts.now - facts.first_seen).days,
                first_day=settings.host_accounts_first_day,
                per_day=settings.host_accounts_per_day,
            )
        most = facts.max_accounts
        events = facts.events_per_s or (None if own else settings.host_events_per_s)
        size = facts.bytes_per_s or (None if own else settings.host_bytes_per_s)
        return [
            ("accounts", f"{most:,} at most" if most is not None else "no limit"),
            (
                "new accounts per day",
                f"{facts.admitted_today:,} today, "
                + (f"{per_day:,} at most" if per_day is not None else "no limit"),
            ),
            ("events per second", f"{events:,g} at most" if events else "no limit"),
            ("stream", f"{size / MIB:,.1f} MiB/s at most" if size else "no limit"),
        ]

    async def crawl(self, request: Request) -> Response:
        """Request a crawl, and redirect to the page (303)."""
        if not from_our_page(request):
            return PlainTextResponse("use the button on the host's page", 403)
        try:
            self._presses.take(client_key(request.scope))
        except XrpcError as error:
            return PlainTextResponse(
                error.message, error.status, headers=dict(error.headers)
            )
        name = request.path_params["hostname"]
        outcome = await run_sync(self._ask, name, limiter=self._threads)
        if outcome is AskedAgain.UNKNOWN:
            return PlainTextResponse("unknown host", 404)
        target = f"/host/{quote(name, safe=':')}?asked={outcome.value}"
        return RedirectResponse(target, 303)

    def _ask(self, hostname: str) -> AskedAgain:
        if not _may_be_known(hostname):
            return AskedAgain.UNKNOWN
        with self._pool.connection() as conn:
            return crawl_again(conn, hostname, self._settings)


def _may_be_known(hostname: str) -> bool:
    # The database takes no NUL in a text.
    return len(hostname) <= _LONGEST_NAME and hostname.isprintable()


def from_our_page(request: Request) -> bool:
    """Return True if a form was sent from a page of this site (CSRF check)."""
    if request.headers.get("sec-fetch-site", "same-origin") not in (
        "same-origin",
        "none",
    ):
        return False
    origin = request.headers.get("origin")
    if origin is None:
        return True
    return urlsplit(origin).netloc == request.headers.get("host")


def next_look(facts: HostFacts, settings: CrawlSettings) -> datetime | None:
    """Return the next scheduled contact; None for streamed and banned hosts."""
    if facts.state in (HOST_OFFLINE, HOST_THROTTLED):
        return facts.next_try
    if facts.state != HOST_POLLING:
        return None
    every = settings.poll_interval if facts.poll_every is None else facts.poll_every
    due = facts.now
    if facts.listed_at is not None:
        due = facts.listed_at + timedelta(seconds=every)
    for held in (facts.next_try, facts.rate_limited_until):
        due = max(due, held) if held is not None else due
    return max(due, facts.now)
