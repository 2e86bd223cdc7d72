"""`bigworld plc`: the PLC directory, or a mirror of another one, as a process."""

from __future__ import annotations

import structlog

from network.server.connections import ConnectionLimits
from network.server.listener import serving
from network.server.request_guard import RequestGuard
from plc.directory import create_app
from plc.exceptions import load_exceptions
from plc.follow import Follower
from plc.mirror import Mirror
from plc.mirror_app import create_mirror_app
from plc.submission_limits import SubmissionLimits
from service.cli.processes.running_process import (
    run_async,
    serve_until_stopped,
    stop_event,
)
from service.operator_errors import ConfigError
from service.outgoing import make_fetcher
from service.runtime.config import Config
from service.runtime.databases import INDEX, PLC, open_database
from service.runtime.secrets import PLC_BYPASS, SecretStore
from storage.postgres.pool import end_idle_transactions, open_pool

log = structlog.get_logger(__name__)

# Seconds that a request waits for a connection before it gets a 503.
_MAX_WAIT_S = 5.0


def run(config: Config) -> None:
    """Serve the directory until a stop signal."""
    with (
        open_database(config, PLC) as url,
        open_pool(
            url, max=8, timeout=_MAX_WAIT_S, prepare=end_idle_transactions
        ) as pool,
    ):
        app = create_app(
            pool,
            guard=RequestGuard(config.guard_policy),
            limits=SubmissionLimits(
                bypass_key=SecretStore(config.home).password(PLC_BYPASS)
            ),
        )
        run_async(serve_until_stopped(app, config, config.plc_port), config)


def run_mirror(config: Config) -> None:
    """Follow the configured directory and serve verified operations until a signal."""
    if config.directory_url == f"http://localhost:{config.plc_port}":
        raise ConfigError("plc_url: a mirror needs a directory other than itself")
    with open_database(config, INDEX) as url, open_pool(url, max=8) as pool:
        tolerated = load_exceptions()
        mirror = Mirror(
            config.directory_url, tolerated=tolerated, dev=config.dev_network
        )
        app = create_mirror_app(
            pool,
            config.directory_url,
            tolerated=tolerated,
            guard=RequestGuard(config.guard_policy),
        )

        async def follow() -> None:
            stop = stop_event()
            async with (
                serving(
                    app,
                    config.bind,
                    config.plc_port,
                    limits=ConnectionLimits(proxies=config.trusted_proxies),
                ) as served,
                make_fetcher(config) as fetcher,
            ):
                log.info("mirroring", directory=config.directory_url, url=served)
                follower = Follower(mirror, pool, fetcher, rate=config.plc_mirror_rate)
                await follower.run(stop)

        run_async(follow(), config)
