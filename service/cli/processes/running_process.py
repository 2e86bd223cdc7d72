"""Run coroutines and servers until a stop signal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

import structlog
import uvloop
from starlette.types import ASGIApp

from network.server.connections import ConnectionLimits
from network.server.listener import serving
from service.runtime.config import Config

log = structlog.get_logger(__name__)

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_DEV_WARNING = (
    "DEVELOPMENT NETWORK: loopback and plain http hosts are allowed, identities can be "
    "forged; never expose this to the internet"
)


def run_async(main: Coroutine[Any, Any, None], config: Config) -> None:
    """Run a coroutine on a fast event loop; warn if this is a development network."""
    if config.dev_network:
        log.warning(_DEV_WARNING)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def stop_event() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set."""
    event = asyncio.Event()
    for number in _STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event


async def serve_until_stopped(
    app: ASGIApp, config: Config, port: int, *, is_shared: bool = False
) -> None:
    """Serve `app` until a stop signal; other processes may share its port."""
    stop = stop_event()
    limits = ConnectionLimits(proxies=config.trusted_proxies)
    async with serving(
        app, config.bind, port, limits=limits, is_shared=is_shared
    ) as url:
        log.info("serving", url=url)
        await stop.wait()
    log.info("stopped", port=port)
