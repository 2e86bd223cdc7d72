"""The page of one host, for its operator, and the button that asks for a new crawl."""

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

# Anybody may press the button, but nobody so often that it costs us anything.
_PRESSES: Final = 10
_WINDOW_S: Final = 100.0
_LONGEST_NAME: Final = 253

ANSWERS: Final = {
    AskedAgain.QUEUED: "Noted: everything on this host is compared with what we have, "
    "beginning within a minute.",
    AskedAgain.ALREADY: "This was asked for a short while ago already, and is under "
    "way or done.",
    AskedAgain.LATER: "Noted: everything on this host is compared with what we have "
    "when its time of being left alone is over.",
    AskedAgain.BANNED: "The operator of this index has banned this host.",
}

STATES: Final = {
    HOST_NEW: "We have just heard of it and look at it next.",
    HOST_STREAMING: "We read its stream: what happens there is here in a moment.",
    HOST_POLLING: "It is quiet, so we keep no stream open and ask for its list "
    "of repos now and then. When it gets busy, we stream it.",
    HOST_RELAYED: "A relay forwards its events; we ask it for whole repos only.",
    HOST_THROTTLED: "It sent too many messages that no honest host sends, so we "
    "leave it alone for a while.",
    HOST_OFFLINE: "It did not answer. What we have of it is shown all the same.",
    HOST_RECHECK: "Its numbering jumped back: we read its stream from the tip "
    "and compare everything else in full.",
    RECONNECTING: "Its stream does not open. We go on trying, and read on from "
    "where we were.",
    HOST_BANNED: "The operator of this index does not want it. It is never contacted.",
}


class HostPages:
    """Reads and writes host rows through `pool`, within `settings`."""

    def __init__(
        self, pool: Pool, settings: CrawlSettings, threads: CapacityLimiter
    ) -> None:
        self._pool = pool
        self._threads = threads
        self._settings = settings
        self._presses = RateLimit(_PRESSES, _WINDOW_S)

    def routes(self, show: Endpoint) -> Sequence[BaseRoute]:
        """The page, shown by `show`, and its button."""
        return [
            Route("/host/{hostname}", show),
            Route("/host/{hostname}/crawl", self.crawl, methods=["POST"]),
        ]

    def page(self, request: Request) -> dict[str, Any]:
        """What the template shows."""
        name = request.path_params["hostname"]
        with self._pool.connection() as conn:
            report = None
            if _may_be_known(name):
                report = host_report(conn, name, most=MOST_COUNTED)
        if report is None:
            raise XrpcError("NotFound", f"we know no host {name[:80]!r}", 404)
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
            ("accounts in all", f"{most:,}" if most is not None else "no limit"),
            (
                "new accounts a day",
                f"{facts.admitted_today:,} today, "
                + (f"{per_day:,} at most" if per_day is not None else "no limit"),
            ),
            ("events a second", f"{events:,g} at most" if events else "no limit"),
            (
                "its stream",
                f"{size / MIB:,.1f} MiB a second at most" if size else "no limit",
            ),
        ]

    async def crawl(self, request: Request) -> Response:
        """The button: note the wish, and show the page again (303)."""
        if not from_our_page(request):
            return PlainTextResponse("press the button on the host's own page", 403)
        try:
            self._presses.take(client_key(request.scope))
        except XrpcError as error:
            return PlainTextResponse(
                error.message, error.status, headers=dict(error.headers)
            )
        name = request.path_params["hostname"]
        outcome = await run_sync(self._ask, name, limiter=self._threads)
        if outcome is AskedAgain.UNKNOWN:
            return PlainTextResponse("we know no such host", 404)
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
    """Whether a form was sent from a page of this very site: other sites must not
    make their visitors press our buttons."""
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
    """When the host is asked for something by itself; None: it is listened to, or
    never contacted."""
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
