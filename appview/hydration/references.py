"""AT-URIs that records hold."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.records import Post, Record
from protocol.syntax import is_at_uri

JOINED_VIA: Final = "joinedViaStarterPack"
PINNED_POST: Final = "pinnedPost"


def quoted_uri(post: dict[str, Any]) -> str | None:
    """Return the AT-URI of the record that a post embeds, with or without media."""
    embed = post.get("embed")
    for _ in range(2):  # recordWithMedia holds an embed.record in `record`
        embed = embed.get("record") if isinstance(embed, dict) else None
        uri = embed.get("uri") if isinstance(embed, dict) else None
        if isinstance(uri, str):
            return uri if is_at_uri(uri) else None
    return None


def reference_uri(record: Record, field: str) -> str | None:
    """Return the AT-URI of a reference in a record, None if there is none."""
    reference = record.value.get(field)
    uri = reference.get("uri") if isinstance(reference, dict) else None
    return uri if isinstance(uri, str) and is_at_uri(uri) else None


def root_uri(post: Post) -> str | None:
    """Return the AT-URI of the root that a reply names; None for a root."""
    reply = post.record.value.get("reply")
    root = reply.get("root") if isinstance(reply, dict) else None
    uri = root.get("uri") if isinstance(root, dict) else None
    return uri if isinstance(uri, str) else None
