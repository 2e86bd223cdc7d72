"""Settings of the crawl: identities, hosts, scope, limits, the event log."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings

from crawler.settings import CrawlSettings
from service.runtime.field_types import Names

_CRAWL = CrawlSettings()


class CrawlFields(BaseSettings):
    """Fields of the crawl."""

    plc_url: str | None = Field(
        None,
        description="The PLC directory. Default: https://plc.directory, or the "
        "embedded one in a development network.",
    )
    plc_requests_per_s: float | None = Field(
        None,
        gt=0,
        description="Requests per second to the PLC directory, of each process that "
        "resolves identities (crawl, worker, provider). Default: 50, or 1000 in a "
        "development network.",
    )
    plc_mirror: bool = Field(
        False,
        description="Resolve identities from a verified copy of the PLC directory, "
        "kept by `plc --mirror` in the index database. `up` then runs it.",
    )
    plc_mirror_rate: float = Field(
        1.5, gt=0, description="Requests per second from the mirror to the directory."
    )
    relays: Names = Field(
        (), description="Relays (origins) that are trusted to forward commits."
    )
    hosts: Names = Field((), description="PDS hosts (origins) to crawl and follow.")
    dids: Names = Field(
        (), description="Single accounts (DIDs) to index, or whose follows to index."
    )
    scope: Literal["dids", "follows", "collection", "network"] | None = Field(
        None,
        description="Accounts to index: `dids`, those and the accounts they follow "
        "(`follows`), accounts with a record of `collections` (`collection`), or the "
        "whole `network`. Default: `dids` if any is set, else `network`.",
    )
    collections: Names = Field(
        (), description="Collections (NSIDs) of the scope `collection`."
    )
    keep: Names = Field(
        (),
        description="Fetch and keep only these collections (NSIDs) of each repo. "
        "Default: all.",
    )
    lexicons: Path | None = Field(
        None,
        description="Folder of lexicons (.json) of other records. Their fields are "
        "searched by their roles; a changed file is read within a minute.",
    )
    labelers: Names = Field(
        (),
        description="Labelers (DIDs) to subscribe to. Their labels and takedowns apply "
        "to clients that name no labelers of their own.",
    )
    account_cap: int = Field(
        1_000,
        ge=0,
        description="Maximum number of accounts in the index; 0 means no cap.",
    )
    audit_per_hour: float = Field(
        120.0,
        ge=0,
        description="Repos per hour, drawn at random, that are compared with their "
        "signed roots and their hosts; 0 means none.",
    )
    host_requests_per_s: float = Field(
        5.0, gt=0, description="Requests per second sent to one foreign host."
    )
    host_concurrency: int = Field(
        2, ge=1, description="Concurrent requests to one foreign host."
    )
    host_accounts_first_day: int = Field(
        _CRAWL.host_accounts_first_day,
        ge=1,
        description="New accounts admitted from a host on its first day; doubles each "
        "day after.",
    )
    host_accounts_per_day: int = Field(
        _CRAWL.host_accounts_per_day,
        ge=1,
        description="Maximum number of new accounts per day and host.",
    )
    host_events_per_s: float = Field(
        _CRAWL.host_events_per_s,
        gt=0,
        description="Events per second read from one host's stream.",
    )
    host_bytes_per_s: float = Field(
        _CRAWL.host_bytes_per_s,
        gt=0,
        description="Bytes per second read from one host's stream.",
    )
    account_commits_per_s: float = Field(
        _CRAWL.account_commits_per_s,
        gt=0,
        description="Commits per second followed of one account, over a minute or two; "
        "a busier account is fetched whole later.",
    )
    streams_at_once: int = Field(
        _CRAWL.streams_at_once,
        ge=1,
        description="Maximum number of open streams; other hosts are polled.",
    )
    poll_interval_s: float = Field(
        _CRAWL.poll_interval,
        gt=0,
        description="Seconds between polls of a quiet host; up to four times as many "
        "while nothing changes there.",
    )
    shards: int = Field(
        1, ge=1, le=256, description="Shards of the live ingest, by hash of the DID."
    )
    sql_records: bool | None = Field(
        None,
        description="Keep records as JSON too, so that SQL reads texts of posts. Costs "
        "disk space. Default: only in a development network.",
    )
    event_log: bool = Field(
        False,
        description="Keep verified events for subscribeRepos and Jetstream of the "
        "provider. `up` sets it for its demo network.",
    )
    event_log_hours: float = Field(
        72.0, gt=0, description="Hours that events are kept."
    )
    event_log_mb: int = Field(
        10_000, ge=1, description="Maximum size of the event log in megabytes."
    )
    contact: str | None = Field(
        None,
        description="Contact for operators of foreign hosts (a URL or mail address); "
        "part of the User-Agent. Required to crawl the real network.",
    )
