"""The thread that sends notifications of registered devices to the push webhook."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from appview.app import AppView
from mirror.push_sender import Push, PushSender
from network.http.policy import HostLimits
from service.outgoing import make_fetcher
from service.runtime.config import Config
from service.runtime.secrets import SecretStore
from storage.postgres.polling_thread import PollingThread

_LIMITS: Final = HostLimits(rate=20, burst=40, concurrency=1, max_wait=5)
_POLL_S: Final = 2.0


def make_pusher(config: Config, app: AppView) -> AbstractContextManager[object]:
    """Return the thread, or a context without one if there is no webhook."""
    url = config.push_webhook_url
    if url is None:
        return nullcontext()
    sender = PushSender(app, url, SecretStore(config.home).key("push-webhook"))

    def step() -> bool:
        due = sender.claim()
        pushes = sender.read(due)
        if pushes:
            asyncio.run(_send(config, sender, pushes))
        return sender.is_full(due)

    return PollingThread("push_sender", step, poll_s=_POLL_S)


async def _send(config: Config, sender: PushSender, pushes: list[Push]) -> None:
    async with make_fetcher(config, limits=_LIMITS) as client:
        for push in pushes:
            await sender.send(push, client)
