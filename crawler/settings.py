"""Bounds of the crawler, filled from the configuration by the service."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class CrawlSettings:
    """Bounds of one crawling process. Times in seconds, sizes in bytes.

    - dev: hosts may be loopback and plain http
    - account_cap: accounts that may be admitted; None for no cap
    - host_accounts_first_day: new accounts of an untrusted host at first; doubled
      each day after
    - host_accounts_per_day: new accounts of an untrusted host a day, at most
    - new_hosts_per_day: hosts a day that requestCrawl may name
    - shards: processes that verify and apply, each its own accounts
    - rebroadcast: events carry their frames, for an event log
    - lookups_at_once: lookups at the directory, and as many of did:web domains;
      of these `lookups_per_host` for the frames of one host
    - plc_rate: requests a second to the directory
    - streams_at_once: streams that may be open
    - host_events_per_s: events a second of one untrusted host
    - host_bytes_per_s: bytes a second of such events
    - account_commits_per_s: commits and syncs a second of one account, except on hosts
      that the operator configured
    - account_cooldown: pause of an account over its budget, at most
    - busy_rate, quiet_rate: a second; a polled host above the first is streamed,
      a streamed host below the second is polled
    - rate_window: over which rates are smoothed; `usual_window` of usual rates
    - poll_interval: between polls of a host that changes; `poll_longest` of one
      that does not
    - sparse_records: records of chosen collections to fetch one by one; repos
      with more are fetched whole
    - backfill_patience: after which a fetch counts as slow
    - again_interval: between two requests to crawl one host again
    """

    dev: bool = False
    account_cap: int | None = 1_000
    host_accounts_first_day: int = 100
    host_accounts_per_day: int = 10_000
    new_hosts_per_day: int = 50
    shards: int = 1
    rebroadcast: bool = False

    # One frame is at most 5 MB, so this is never less than six frames.
    queue_bytes: int = 32 * MIB
    known_accounts: int = 50_000
    lookups_at_once: int = 64
    lookups_per_host: int = 2
    plc_rate: float = 50.0
    birth_wait: float = 0.5
    refresh_interval: float = 60.0

    batch_events: int = 1_000
    batch_wait: float = 0.1
    flush_interval: float = 1.0

    strike_limit: int = 200
    throttle_time: float = 3_600.0
    bad_seqs_allowed: int = 10
    bad_frames_allowed: int = 3
    offline_after: int = 15
    offline_recheck: float = 86_400.0
    host_rescan: float = 1.0
    streams_at_once: int = 500
    host_events_per_s: float = 1_000.0
    host_bytes_per_s: float = 10.0 * MIB
    account_commits_per_s: float = 10.0
    account_cooldown: float = 60.0
    busy_rate: float = 1 / 60
    quiet_rate: float = 1 / 1_200
    stream_dwell: float = 3_600.0
    rate_window: float = 900.0
    usual_window: float = 3 * 86_400.0

    backfills_at_once: int = 8
    backfills_per_host: int = 2
    backfill_lease: float = 600.0
    backfill_patience: float = 20.0
    backfill_tries: int = 8
    backfill_daily: float = 86_400.0
    backfill_idle: float = 0.25
    backfill_diff_bytes: int = 16 * MIB
    sparse_records: int = 2_000

    listing_interval: float = 7 * 86_400.0
    poll_interval: float = 900.0
    poll_longest: float = 3_600.0
    polls_at_once: int = 32
    again_interval: float = 600.0
    status_age: float = 7 * 86_400.0
    status_confirm: float = 3_600.0
    listing_settle: float = 5.0
    identity_age: float = 86_400.0
