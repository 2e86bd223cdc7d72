"""What long-running verbs share: a stop signal, and a server until it comes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

import structlog
from starlette.types import ASGIApp

from network.server.connections import ConnectionLimits
from network.server.listener import serving
from service.runtime.config import Config

log = structlog.get_logger(__name__)

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_DEV_WARNING = (
    "DEVELOPMENT NETWORK: loopback and plain http hosts are allowed, anything may be "
    "claimed by anyone; never expose this to the internet"
)


def run_async(main: Coroutine[Any, Any, None], config: Config) -> None:
    """Run a verb's coroutine; says loudly when the development switch is on."""
    if config.dev_network:
        log.warning(_DEV_WARNING)
    asyncio.run(main)


def stop_event() -> asyncio.Event:
    """An event of the running loop that SIGINT and SIGTERM set."""
    event = asyncio.Event()
    for number in _STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event


async def serve_until_stopped(app: ASGIApp, config: Config, port: int) -> None:
    """Serve `app` on the configured address until a stop signal."""
    stop = stop_event()
    limits = ConnectionLimits(proxies=config.trusted_proxies)
    async with serving(app, config.bind, port, limits=limits) as url:
        log.info("serving", url=url)
        await stop.wait()
    log.info("stopped", port=port)
