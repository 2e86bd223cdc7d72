"""The write side: crawler, indexer and search drain on one database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from crawler.hosts.discovery import add_configured
from crawler.identities.network_clients import OpenClients, clients_opener
from crawler.lexicon_lookup import LexiconLookup
from crawler.settings import CrawlSettings
from crawler.tasks import CrawlTasks
from indexer.event_numbering import EventRetention, event_numbering
from indexer.index_writer import IndexWriter
from indexer.search_drain import search_drain
from network.http.policy import HostLimits
from plc.lookup import MirrorLookup
from search.engines.contract import SearchEngine
from search.matches.match_pass import LogMatches
from service.recipe_files import RecipeTask
from service.runtime.config import Config
from service.runtime.crawl_settings import crawl_settings
from service.runtime.search_engines import make_engine
from service.standing_queries import drain_listener
from storage.postgres.pool import Pool, open_pool
from storage.private.private_store import PrivateStore
from storage.records.interning import Interner

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WriteSide:
    """Parts that `crawl` and `worker` share; `on_written` wakes the search drain."""

    config: Config
    settings: CrawlSettings
    url: str
    pool: Pool
    engine: SearchEngine
    private: PrivateStore
    log_matches: LogMatches
    index: IndexWriter
    open_clients: OpenClients
    tasks: CrawlTasks
    on_written: Callable[[], None]
    interner: Interner
    audit_per_hour: float
    lexicons: LexiconLookup | None = None
    recipes: RecipeTask | None = None


@contextmanager
def open_write_side(config: Config, url: str, private_url: str) -> Iterator[WriteSide]:
    """Open the write side of the index at `url`; close it at the end.

    Saved searches are in the database at `private_url`.
    """
    settings = crawl_settings(config)
    with (
        open_pool(url, max=2 * settings.backfills_at_once + 8, name="write") as pool,
        open_pool(url, max=4, name="names") as names,
        open_pool(private_url, max=4, name="private") as private,
    ):
        store = PrivateStore(private)
        log_matches = drain_listener(config, store)
        engine = make_engine(config, pool)
        open_clients = clients_opener(
            names,
            settings,
            plc_url=config.directory_url,
            user_agent=config.user_agent,
            dev_pds=config.hosts if config.dev_network else (),
            host_limits=HostLimits(
                rate=config.host_requests_per_s,
                burst=max(1, int(2 * config.host_requests_per_s)),
                concurrency=config.host_concurrency,
            ),
            open_mirror=mirror_opener(config, names),
        )
        with (
            search_drain(pool, engine, log_matches) as drain,
            event_log(config, pool) as number,
        ):

            def on_written() -> None:
                drain.wake()
                number()

            interner = Interner(names)
            index = IndexWriter(
                pool, interner, on_written, rebroadcast=settings.rebroadcast
            )
            tasks = CrawlTasks(
                settings, pool, index, open_clients, config.hosts, config.relays
            )
            yield WriteSide(
                config,
                settings,
                url,
                pool,
                engine,
                store,
                log_matches,
                index,
                open_clients,
                tasks,
                on_written,
                interner,
                config.audit_per_hour,
                LexiconLookup(
                    pool,
                    open_clients,
                    config.lexicons,
                    resolves=not config.dev_network,
                ),
                RecipeTask(config, pool, store, engine),
            )


@contextmanager
def event_log(config: Config, pool: Pool) -> Iterator[Callable[[], None]]:
    """Number and prune the event log; yield a function that announces new events."""
    keep = EventRetention(config.event_log_hours, config.event_log_mb)
    with event_numbering(pool, keep, idle=not config.event_log) as numbering:
        yield numbering.wake if config.event_log else _nothing


def _nothing() -> None:
    return None


def mirror_opener(config: Config, pool: Pool) -> Callable[[], MirrorLookup] | None:
    """Return a factory of lookups in the mirror of the directory, if there is one."""
    if not config.plc_mirror:
        return None
    return lambda: MirrorLookup(pool, config.directory_url)


def add_configured_hosts(config: Config, side: WriteSide) -> None:
    """Store the configured hosts and relays."""
    with side.pool.connection() as conn:
        add_configured(conn, config.hosts, config.relays, side.settings)
