"""Discovery of hosts: configuration, requestCrawl, relays, the PLC mirror."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final

from crawler.hosts.host_name import HostAddress, InvalidHostError, parse_host
from crawler.hosts.page_guard import PageGuard
from crawler.methods import DESCRIBE_SERVER, LIST_HOSTS
from crawler.settings import CrawlSettings
from network.errors import BadResponseError
from network.http.client import Fetcher
from network.xrpc.client import XrpcClient
from plc.operation_log import hosts_after
from protocol.data import json_form
from protocol.errors import ProtocolError
from storage.hosts import host_relays, host_rows
from storage.hosts.host_listing import find_asked, note_asked, poll_now
from storage.hosts.host_source import keep_position, load_position
from storage.postgres.pool import Conn

log = logging.getLogger(__name__)

_LIST_PAGES: Final = 100
_LIST_LIMIT: Final = 1_000
_LIST_BYTES: Final = 4_000_000
_DESCRIBE_BYTES: Final = 64_000
_PLC: Final = "plc"


class HostRefusedError(Exception):
    """A host that must not be crawled. `name` is the XRPC error to reply with."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def add_configured(
    conn: Conn, pds: Iterable[str], relays: Iterable[str], settings: CrawlSettings
) -> list[int]:
    """Add the configured hosts and relays as trusted; return their ids.

    Raises InvalidHostError for a name that cannot be a host.
    """
    added = []
    for texts, relay in ((pds, False), (relays, True)):
        for text in texts:
            address = parse_host(text, dev=settings.dev)
            host, _ = host_rows.put_host(
                conn,
                address.name,
                address.url,
                source=host_rows.SOURCE_CONFIGURED,
                relay=relay,
            )
            added.append(host)
    return added


def find_requested(
    conn: Conn, hostname: str, settings: CrawlSettings
) -> HostAddress | None:
    """Return the address of a new host, None for a known one.

    Raises HostRefusedError for an invalid name, and over the new hosts of a day.
    """
    address = _parse(hostname, settings)
    if address.name in host_rows.find_hosts(conn, [address.name]):
        return None
    _check_new_hosts(conn, settings)
    return address


def _parse(hostname: str, settings: CrawlSettings) -> HostAddress:
    try:
        return parse_host(hostname, dev=settings.dev)
    except InvalidHostError as error:
        raise HostRefusedError("InvalidRequest", str(error)) from error


def _check_new_hosts(conn: Conn, settings: CrawlSettings) -> None:
    asked = host_rows.count_new_hosts(conn, host_rows.SOURCE_REQUEST_CRAWL)
    if asked >= settings.new_hosts_per_day:
        raise HostRefusedError("RateLimitExceeded", "too many new hosts today")


def request_crawl(conn: Conn, hostname: str, settings: CrawlSettings) -> int:
    """Note that a host asks to be crawled (requestCrawl); return its id.

    Writes one row and fetches nothing. Raises HostRefusedError. Does not commit.
    """
    address = _parse(hostname, settings)
    known = host_rows.find_hosts(conn, [address.name]).get(address.name)
    if known is None:
        _check_new_hosts(conn, settings)
        return host_rows.put_host(
            conn, address.name, address.url, source=host_rows.SOURCE_REQUEST_CRAWL
        )[0]
    if known.state == host_rows.HOST_BANNED:
        raise HostRefusedError("HostBanned", "this host is not crawled")
    if known.state == host_rows.HOST_RELAYED and host_relays.relay_is_read(conn):
        crawl_again(conn, known.hostname, settings)
    else:
        _look_again(conn, known)
    return known.id


class AskedAgain(StrEnum):
    """Outcome of a request to crawl a host again."""

    QUEUED = "queued"
    ALREADY = "already"
    LATER = "later"
    BANNED = "banned"
    UNKNOWN = "unknown"


def crawl_again(conn: Conn, hostname: str, settings: CrawlSettings) -> AskedAgain:
    """Have the whole listing of a known host compared now.

    Any client may ask, so one request a host and `again_interval` counts. Does not
    commit.
    """
    found = find_asked(conn, hostname, within=settings.again_interval)
    if found is None:
        return AskedAgain.UNKNOWN
    host, lately = found
    if host.state == host_rows.HOST_BANNED:
        return AskedAgain.BANNED
    if lately:
        return AskedAgain.ALREADY
    note_asked(conn, host.id)
    host_rows.request_listing(conn, host.id)
    _look_again(conn, host)
    if host.state == host_rows.HOST_THROTTLED:
        return AskedAgain.LATER
    return AskedAgain.QUEUED


def _look_again(conn: Conn, host: host_rows.Host) -> None:
    """Retry a host that is away. Hosts behind a relay are not streamed for that: their
    events would come twice."""
    if host.state == host_rows.HOST_POLLING or (
        host.state == host_rows.HOST_OFFLINE and host.mode == host_rows.MODE_POLL
    ):
        poll_now(conn, host.id)
    elif host.state == host_rows.HOST_OFFLINE or (
        host.state == host_rows.HOST_RELAYED and not host_relays.relay_is_read(conn)
    ):
        host_rows.move_host(conn, host.id, host_rows.HOST_NEW, "somebody asked for it")


def take_over_plc_hosts(
    conn: Conn, settings: CrawlSettings, *, limit: int
) -> tuple[int, int]:
    """Add the next `limit` PDSes that the PLC mirror saw, to be polled. Return how many
    were read, and how many were new.

    Skips names that cannot be hosts.
    """
    read, new = 0, 0
    for position, url in hosts_after(conn, load_position(conn, _PLC), limit=limit):
        read += 1
        try:
            address = parse_host(url, dev=settings.dev)
        except InvalidHostError:
            continue
        finally:
            keep_position(conn, _PLC, position)
        new += host_rows.put_host(
            conn,
            address.name,
            address.url,
            source=host_rows.SOURCE_PLC,
            state=host_rows.HOST_POLLING,
        )[1]
    return read, new


async def probe(fetcher: Fetcher, url: str) -> None:
    """Check that a host answers as a PDS. Raises NetworkError, XrpcError."""
    answer = await XrpcClient(fetcher, url).query(
        DESCRIBE_SERVER, max_bytes=_DESCRIBE_BYTES
    )
    if not isinstance(answer, dict) or not isinstance(answer.get("did"), str):
        raise BadResponseError(f"{url} is not a PDS", 200)


async def list_hosts(
    fetcher: Fetcher, relay_url: str, settings: CrawlSettings
) -> list[HostAddress]:
    """Return the hosts of a relay (com.atproto.sync.listHosts), without invalid names.
    Raises NetworkError, XrpcError."""
    client = XrpcClient(fetcher, relay_url)
    guard = PageGuard(_LIST_PAGES)
    found: dict[str, HostAddress] = {}
    cursor: str | None = None
    while True:
        page = await client.query_bytes(
            LIST_HOSTS, {"limit": _LIST_LIMIT, "cursor": cursor}, max_bytes=_LIST_BYTES
        )
        entries, following = read_page(page, "hosts")
        for entry in entries:
            status = entry.get("status")
            if status in ("banned", "throttled"):
                continue
            try:
                address = parse_host(str(entry.get("hostname", "")), dev=settings.dev)
            except InvalidHostError:
                continue
            found[address.name] = address
        cursor = guard.enter(entries, following)
        if cursor is None:
            return list(found.values())


def read_page(body: bytes, name: str) -> tuple[list[dict[str, Any]], str | None]:
    """Return the entries under `name` of a listing's page, and the next cursor.

    Raises BadResponseError for anything else.
    """
    try:
        page = json_form.loads(body)
    except ProtocolError as error:
        raise BadResponseError(f"a page that is not JSON: {error}", 200) from error
    if not isinstance(page, dict) or not isinstance(page.get(name), list):
        raise BadResponseError(f"a page without {name}", 200)
    cursor = page.get("cursor")
    if cursor is not None and (not isinstance(cursor, str) or len(cursor) > 2_048):
        raise BadResponseError("a page with an unusable cursor", 200)
    entries = [entry for entry in page[name] if isinstance(entry, dict)]
    return entries, cursor or None
