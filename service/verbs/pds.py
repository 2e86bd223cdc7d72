"""`bigworld pds`: one of the two embedded Personal Data Servers as a process."""

from __future__ import annotations

from typing import Any

from psycopg_pool import ConnectionPool

from network.request_guard import RequestGuard
from pds.server import create_app
from pds.settings import PdsSettings
from service.config import Config
from service.databases import PDS, open_database
from service.outgoing import make_fetcher, make_resolver
from service.secrets import SecretStore
from service.verbs.running import run_async, serve_until_stopped
from storage.pool import open_pool

# The fragment of the provider's DID document that embedded PDSes send reads to.
INDEXER_FRAGMENT = "bsky_appview"
# A whole town moves in when the demo network is made.
_DEMO_SIGN_UPS = 1_000


def settings(config: Config, letter: str) -> PdsSettings:
    """What the embedded PDS `a` or `b` is told."""
    return PdsSettings(
        public_url=config.pds_url(letter),
        handle_domains=(f"{letter}.test",),
        plc_url=config.directory_url,
        secret=SecretStore(config.home).key(f"pds-{letter}"),
        default_indexer=f"{config.provider_did}#{INDEXER_FRAGMENT}",
        indexer_urls=(config.provider_url,),
        dev=config.dev_network,
        sign_ups_per_5_minutes=_DEMO_SIGN_UPS,
    )


def run(config: Config, letter: str) -> None:
    """Serve the PDS until told to stop."""
    with open_database(config, PDS, letter) as url, open_pool(url, max=12) as pool:
        run_async(_serve(config, letter, pool), config)


async def _serve(config: Config, letter: str, pool: ConnectionPool[Any]) -> None:
    async with make_fetcher(config) as fetcher:
        app = create_app(
            settings(config, letter),
            pool,
            fetcher=fetcher,
            identity=make_resolver(config, fetcher),
            guard=RequestGuard(config.guard_policy),
        )
        await serve_until_stopped(app, config, config.pds_port(letter))
