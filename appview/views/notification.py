"""Notifications."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from appview.hydration.notices import via_uri
from appview.hydration.records import STARTER_PACK, Record
from appview.hydration.state import State
from appview.rules import Place, decide_record
from appview.skeletons.notifications import Cause, Notice
from appview.views.common import datetime_text, label_views, present, self_labels
from appview.views.named import starter_pack_view_basic
from appview.views.profile import profile_view
from protocol.data.cbor import encode
from protocol.data.cid import cid_for, cid_to_text
from storage.postgres.instants import from_micros

_DELETED: Final = {"$type": "app.bsky.notification.defs#recordDeleted"}
_DELETED_CID: Final = cid_to_text(cid_for(encode(dict(_DELETED))))


def notification_view(
    state: State, notice: Notice, cause: Cause, seen_at: datetime | None
) -> dict[str, Any]:
    """Return a notification. Without a marker, all of them count as read."""
    address = notice.record
    actor = state.actors[notice.actor]
    uri = state.uris[address]
    post = state.posts.get(address)
    record = post.record if post else state.records.get(address)
    indexed_at = datetime_text(from_micros(notice.sort_us))
    return present(
        uri=uri,
        cid=record.cid if record else _DELETED_CID,
        author=profile_view(state, actor),
        reason=cause.reason.value,
        reasonSubject=state.uris.get(cause.subject) if cause.subject else None,
        record=record.json if record else dict(_DELETED),
        starterPack=_starter_pack(state, notice),
        isRead=seen_at is None or datetime_text(seen_at) > indexed_at,
        indexedAt=indexed_at,
        labels=_labels(state, notice, uri, actor.did, record),
    )


def _labels(
    state: State, notice: Notice, uri: str, did: str, record: Record | None
) -> list[dict[str, Any]]:
    own = self_labels(did, uri, record) if record else []
    return [*label_views(state, notice.record, uri), *own]


def _starter_pack(state: State, notice: Notice) -> dict[str, Any] | None:
    pack = state.by_uri.get(via_uri(state, notice) or "")
    if pack is None or pack.collection != STARTER_PACK:
        return None
    if decide_record(state, Place.NAMED, pack) is not None:
        return None
    return starter_pack_view_basic(state, pack)
