"""`bigworld pds`: a Personal Data Server as a process."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import structlog

from crawler.repos.spill import BlockSpill
from network.server.request_guard import RequestGuard
from pds.application import create_app
from pds.mail import MailSettings
from pds.settings import PdsSettings
from service.cli.processes.running_process import run_async, serve_until_stopped
from service.operator_errors import ConfigError
from service.outgoing import make_fetcher, make_resolver
from service.runtime.config import Config
from service.runtime.databases import PDS, open_database
from service.runtime.secrets import PLC_BYPASS, SecretStore
from storage.postgres.pool import Pool, open_pool

# Service of the provider that embedded PDSes proxy reads to.
INDEXER_FRAGMENT = "bsky_appview"
# The demo network creates hundreds of accounts at once, and signs in again later.
_DEMO_SIGN_UPS = 1_000
_DEMO_LOGINS = 1_000

_NEEDED: Final = (
    "a PDS outside a development network needs pds_public_url (an https origin) and"
    " pds_handle_domains"
)

log = structlog.get_logger(__name__)


def settings(config: Config, letter: str) -> PdsSettings:
    """Return the settings of the PDS `a` or `b`. Raises ConfigError."""
    if not config.dev_network:
        return _public_settings(config, letter)
    secrets = SecretStore(config.home)
    return PdsSettings(
        public_url=config.pds_url(letter),
        handle_domains=(f"{letter}.test",),
        plc_url=config.directory_url,
        plc_bypass_key=_bypass_key(config),
        secret=secrets.key(f"pds-{letter}"),
        default_indexer=f"{config.provider_did}#{INDEXER_FRAGMENT}",
        moderation_service=config.pds_moderation_service,
        cdn_url_pattern=config.cdn_url_pattern,
        indexer_urls=(config.provider_url,),
        admin_password=secrets.password(f"pds-{letter}-admin"),
        mail=_mail(config, letter, "localhost"),
        dev=True,
        sign_ups_per_5_minutes=_DEMO_SIGN_UPS,
        logins_per_5_minutes=_DEMO_LOGINS,
    )


def _public_settings(config: Config, letter: str) -> PdsSettings:
    if letter != "a":
        raise ConfigError("only a development network has a second PDS: run `pds a`")
    if config.pds_public_url is None or not config.pds_handle_domains:
        raise ConfigError(_NEEDED)
    secrets = SecretStore(config.home)
    invite = None
    if config.pds_invite_required:
        invite = secrets.password(f"pds-{letter}-invite")
    # Without a public origin the provider's DID does not resolve elsewhere.
    indexer = None
    if config.public_url is not None:
        indexer = f"{config.provider_did}#{INDEXER_FRAGMENT}"
    try:
        return PdsSettings(
            public_url=config.pds_public_url,
            handle_domains=config.pds_handle_domains,
            plc_url=config.directory_url,
            plc_bypass_key=_bypass_key(config),
            secret=secrets.key(f"pds-{letter}"),
            default_indexer=indexer,
            moderation_service=config.pds_moderation_service,
            cdn_url_pattern=config.cdn_url_pattern,
            indexer_urls=() if indexer is None else (config.provider_url,),
            invite_code=invite,
            admin_password=secrets.password(f"pds-{letter}-admin"),
            mail=_mail(config, letter, urlsplit(config.pds_public_url).hostname or ""),
        )
    except ValueError as error:
        raise ConfigError(f"pds: {error}") from error


def _mail(config: Config, letter: str, host: str) -> MailSettings:
    url = config.pds_smtp_url
    return MailSettings(
        config.pds_mail_from or f"noreply@{host}",
        None if url is None else url.get_secret_value(),
        config.home / "mail" / f"pds-{letter}",
    )


def _bypass_key(config: Config) -> str | None:
    """Return the key of our own directory; never send it to another one."""
    if config.directory_url != f"http://localhost:{config.plc_port}":
        return None
    return SecretStore(config.home).password(PLC_BYPASS)


def run(config: Config, letter: str) -> None:
    """Serve the PDS until a stop signal."""
    made = settings(config, letter)
    if not config.dev_network:
        log.warning("pds is small: no OAuth")
    with open_database(config, PDS, letter) as url, open_pool(url, max=12) as pool:
        run_async(_serve(config, letter, made, pool), config)


async def _serve(config: Config, letter: str, made: PdsSettings, pool: Pool) -> None:
    async with make_fetcher(config) as fetcher:
        app = create_app(
            made,
            pool,
            fetcher=fetcher,
            identity=make_resolver(config, fetcher),
            guard=RequestGuard(config.guard_policy),
            open_spill=BlockSpill,
        )
        await serve_until_stopped(app, config, config.pds_port(letter))
