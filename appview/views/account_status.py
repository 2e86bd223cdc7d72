"""The status of an account: what it does at the moment, with an end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from appview.hydration.actors import Actor
from appview.hydration.state import State
from appview.views.checked import fits
from appview.views.common import datetime_text, label_views, present, text_of
from appview.views.media import EXTERNAL, media_view
from protocol.syntax import datetime_us
from storage.collections import ACTOR_STATUS
from storage.postgres.instants import from_micros, to_micros

MIN_DURATION: Final = timedelta(minutes=5)
MAX_DURATION: Final = timedelta(hours=4)


def status_view(state: State, actor: Actor) -> dict[str, Any] | None:
    """Return the status of an account, None if it has none to show.

    One that was taken down is shown to its owner only.
    """
    record = state.declarations.get((actor.id, ACTOR_STATUS))
    if record is None or not fits(ACTOR_STATUS, record.value):
        return None
    value, address = record.value, record.address
    viewer = state.session.viewer
    is_own = viewer is not None and viewer.did == actor.did
    is_disabled = state.is_taken_down(address) or state.is_redacted(address)
    if (is_disabled and not is_own) or not state.take_repeat(record):
        return None
    uri = f"at://{actor.did}/{ACTOR_STATUS}/self"
    now = datetime.now(UTC)
    ends_at = _end(value.get("durationMinutes"), _begin(state, actor, value, now))
    embed = value.get("embed")
    is_card = isinstance(embed, dict) and embed.get("$type") == EXTERNAL
    return present(
        uri=uri,
        cid=record.cid,
        record=record.json,
        status=text_of(value, "status"),
        embed=media_view(state, actor, embed) if is_card else None,
        labels=label_views(state, address, uri),
        expiresAt=None if ends_at is None else datetime_text(ends_at),
        isActive=None if ends_at is None else ends_at > now,
        isDisabled=is_disabled if is_own else None,
    )


def _begin(
    state: State, actor: Actor, value: dict[str, Any], now: datetime
) -> datetime:
    """Return the earlier of the time that the author claims and that of indexing."""
    indexed = state.marks.status_times.get(actor.id, now)
    return from_micros(min(datetime_us(value["createdAt"]), to_micros(indexed)))


def _end(minutes: Any, begin: datetime) -> datetime | None:
    if not minutes:
        return None
    most = MAX_DURATION // timedelta(minutes=1)
    duration = timedelta(minutes=min(minutes, most))
    return begin + max(duration, MIN_DURATION)
