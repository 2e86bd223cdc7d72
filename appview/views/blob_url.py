"""URLs of blobs at the operator's CDN, else at the account's host."""

from __future__ import annotations

from urllib.parse import quote

from appview.hydration.actors import Actor
from appview.hydration.state import State
from protocol.data.cid import cid_to_text

GET_BLOB = "com.atproto.sync.getBlob"
PLAYLIST = "playlist.m3u8"
THUMBNAIL = "thumbnail.jpg"


def image_url(state: State, actor: Actor, cid: bytes | None, preset: str) -> str | None:
    """Return the URL of an image in the size of `preset`, None without an image."""
    if cid is None or state.session.taken_down.has_blob(actor.did, cid):
        return None
    pattern = state.session.app.cdn_url_pattern
    if pattern is None:
        return _host_url(actor, cid)
    return pattern.format(preset=preset, did=_quoted(actor), cid=cid_to_text(cid))


def video_url(state: State, actor: Actor, cid: bytes, file: str) -> str | None:
    """Return the URL of a video's PLAYLIST or THUMBNAIL.

    Without a video service the original is the playlist, and there is no thumbnail.
    """
    if state.session.taken_down.has_blob(actor.did, cid):
        return None
    pattern = state.session.app.video_url_pattern
    if pattern is None:
        return _host_url(actor, cid) if file == PLAYLIST else None
    return pattern.format(did=_quoted(actor), cid=cid_to_text(cid), file=file)


def _host_url(actor: Actor, cid: bytes) -> str | None:
    if actor.host_url is None:
        return None
    text = cid_to_text(cid)
    return f"{actor.host_url}/xrpc/{GET_BLOB}?did={_quoted(actor)}&cid={text}"


def _quoted(actor: Actor) -> str:
    # A did:web holds percent signs.
    return quote(actor.did, safe=":")
