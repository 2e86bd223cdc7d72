"""Notifications for registered devices: signed requests to one webhook.

The receiver speaks to the push services of the platforms. A notification is sent when
its account's turn comes, and again until the webhook replies with 2xx or an hour has
passed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import anyio
import orjson
import structlog

from appview.app import AppView
from appview.hydration.notices import load_notices
from appview.hydration.state import State
from appview.labelers import Labelers
from appview.session import RequestContext
from appview.shapes.notices import Inbox, open_inbox
from appview.skeletons.notifications import Notice
from appview.views.notification import notification_view
from mirror.match_webhooks import SIGNATURE, Poster, sign
from network.errors import NetworkError
from network.http.client import FetchOptions
from storage.postgres.instants import from_micros
from storage.private.push_registrations import (
    Device,
    PushPosition,
    claim_devices,
    find_position,
    save_position,
)
from storage.private.sealing import DamagedItemError

log = structlog.get_logger(__name__)

MAX_PUSHED: Final = 50
"""Notifications of one request; older ones of a longer list are not pushed."""
_CLAIMED: Final = 50
_LATE: Final = timedelta(minutes=5)
"""A record may arrive so much later than it was made."""
_OLDEST: Final = timedelta(hours=1)
_TIMEOUT_S: Final = 10.0
_MAX_REPLY: Final = 10_000
_NSID: Final = "app.bsky.notification.listNotifications"


@dataclass(frozen=True, slots=True)
class Push:
    """A request for one account, and the position after it."""

    did: str
    body: bytes
    position: PushPosition


class PushSender:
    """Sends what is due. `now` is for tests."""

    def __init__(
        self,
        app: AppView,
        url: str,
        secret: bytes,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._app = app
        self._url = url
        self._secret = secret
        self._now = now

    def claim(self) -> Mapping[str, list[Device]]:
        """Return the devices of accounts whose turn it is, by DID."""
        with self._app.private.write() as conn:
            return claim_devices(conn, self._app.vault, self._now(), _CLAIMED)

    def is_full(self, due: Mapping[str, list[Device]]) -> bool:
        """Return True if more accounts may be due."""
        return len(due) >= _CLAIMED

    def read(self, due: Mapping[str, list[Device]]) -> list[Push]:
        """Return a request for each account with new notifications."""
        pushes: list[Push] = []
        for did, devices in due.items():
            try:
                push = self._read(did, devices)
            except DamagedItemError as error:
                log.warning("push_unreadable", did=did, why=str(error))
                continue
            if push is not None:
                pushes.append(push)
        return pushes

    def _read(self, did: str, devices: list[Device]) -> Push | None:
        context = RequestContext(
            self._app,
            _NSID,
            viewer_did=did,
            labelers=Labelers.default(self._app.default_labelers),
        )
        inbox = open_inbox(context, None, None, pushed=True)
        with self._app.private.read() as conn:
            position = find_position(conn, self._app.vault.account(did))
        now = self._now()
        if position is None:
            return None
        since = max(position.at - _LATE, now - _OLDEST)
        with context.session() as session:
            found = inbox.fetch(session, MAX_PUSHED, since=since)
            sent = {*position.sent}
            new = [notice for notice in found if notice.key not in sent]
            views = _views(State(session), inbox, new)
        if not views:
            return None
        kept = tuple(n.key for n in found if from_micros(n.sort_us) > now - _LATE)
        body = {
            "did": did,
            "devices": [device.json() for device in devices],
            "notifications": views,
        }
        return Push(did, orjson.dumps(body), PushPosition(now, kept))

    async def send(self, push: Push, client: Poster) -> bool:
        """Send a request; return True if the webhook took it."""
        moment = int(self._now().timestamp())
        options: FetchOptions = {
            "max_bytes": _MAX_REPLY,
            "timeout": _TIMEOUT_S,
            "headers": {
                "Content-Type": "application/json",
                SIGNATURE: sign(self._secret, moment, push.body),
            },
        }
        try:
            reply = await client.post(self._url, body=push.body, **options)
        except NetworkError as error:
            log.warning("push_failed", why=str(error) or type(error).__name__)
            return False
        if not 200 <= reply.status < 300:
            log.warning("push_failed", why=f"the webhook replied with {reply.status}")
            return False
        await anyio.to_thread.run_sync(self._advance, push)
        return True

    def _advance(self, push: Push) -> None:
        with self._app.private.write() as conn:
            save_position(conn, self._app.vault.account(push.did), push.position)


def _views(state: State, inbox: Inbox, new: list[Notice]) -> list[dict[str, Any]]:
    wanted = inbox.wanted(new)
    load_notices(state, wanted)
    return [
        notification_view(state, notice, cause, None) | {"isRead": False}
        for notice in wanted
        if (cause := inbox.shown_cause(state, notice)) is not None
    ]
