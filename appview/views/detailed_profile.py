"""Whole profiles (profileViewDetailed), and profiles with known followers."""

from __future__ import annotations

from typing import Any

from appview.hydration.actors import Actor
from appview.hydration.known_followers import MAX_SHOWN
from appview.hydration.records import STARTER_PACK, Record
from appview.hydration.references import JOINED_VIA, PINNED_POST, reference_uri
from appview.hydration.state import State
from appview.rules import Place, decide_record, shown_actors
from appview.views.blob_url import image_url
from appview.views.checked import STRONG_REF, part_of
from appview.views.common import present, text_of
from appview.views.named import starter_pack_view_basic
from appview.views.profile import profile_view, profile_view_basic
from protocol.syntax import is_uri


def profile_view_detailed(state: State, actor: Actor) -> dict[str, Any]:
    """Return an account loaded by `load_profiles`."""
    record = state.profile_record(actor.id)
    view = profile_view(state, actor)
    view = _with_known_followers(state, actor.id, view)
    return view | present(
        banner=image_url(state, actor, actor.banner, "banner"),
        website=_website(record) if record else None,
        followersCount=actor.followers,
        followsCount=actor.follows,
        postsCount=actor.posts,
        associated={
            **view["associated"],
            "lists": actor.lists,
            "feedgens": actor.feed_generators,
            "starterPacks": actor.starter_packs,
            "labeler": actor.labeler,
        },
        joinedViaStarterPack=_starter_pack(state, record) if record else None,
        pinnedPost=_pinned_post(state, record) if record else None,
    )


def _pinned_post(state: State, record: Record) -> dict[str, Any] | None:
    pinned: dict[str, Any] | None = part_of(record.value, PINNED_POST, STRONG_REF)
    if pinned is None or state.session.taken_down.hides(str(pinned["uri"])):
        return None
    return pinned


def known_profile_view(state: State, actor: int) -> dict[str, Any]:
    """Return an entry in a list of accounts, with its known followers."""
    return _with_known_followers(state, actor, profile_view(state, state.actors[actor]))


def _with_known_followers(
    state: State, actor: int, view: dict[str, Any]
) -> dict[str, Any]:
    """Add the known followers to the view of an account, if they were loaded."""
    known = state.known_followers.get(actor)
    if not known or "viewer" not in view:
        return view
    shown = shown_actors(state, Place.FOLLOW, known[:MAX_SHOWN], beside=actor)
    followers = [profile_view_basic(state, state.actors[other]) for other in shown]
    counted = {"count": len(known), "followers": followers}
    return {**view, "viewer": {**view["viewer"], "knownFollowers": counted}}


def _website(record: Record) -> str | None:
    website = text_of(record.value, "website")
    if website is None or not website.startswith("https://") or not is_uri(website):
        return None
    return website


def _starter_pack(state: State, record: Record) -> dict[str, Any] | None:
    pack = state.by_uri.get(reference_uri(record, JOINED_VIA) or "")
    if pack is None or pack.collection != STARTER_PACK or pack not in state.named:
        return None
    if decide_record(state, Place.NAMED, pack) is not None:
        return None
    return starter_pack_view_basic(state, pack)
