"""Values in manifests of Graze: embeds, categories of classifiers, and addresses."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from feeds.importing.conditions import Table
from protocol.syntax import is_did, is_handle

ResolveHandle = Callable[[str], str | None]
"""The DID of a handle, None if it is unknown."""

EMBEDS: Final[dict[str, Table]] = {
    "image": {"media": ["images"]},
    "image_group": {"media": ["images"]},
    "video": {"media": ["video"]},
    "link": {"media": ["link"]},
    "post": {"quotes": "only"},
}
ANY_EMBED: Final[Table] = {
    "any": [{"media": ["images", "video", "link"]}, {"quotes": "only"}]
}
EMBED_TYPES: Final[dict[str, Table]] = {
    "app.bsky.embed.images": {"media": ["images"]},
    "app.bsky.embed.video": {"media": ["video"]},
    "app.bsky.embed.external": {"media": ["link"]},
    "app.bsky.embed.record": {"quotes": "only"},
}
POST_TYPES: Final[dict[str, Table]] = {
    "reply": {"replies": "only"},
    "quote": {"quotes": "only"},
}
LANGUAGES: Final = {
    "arabic": "ar",
    "bulgarian": "bg",
    "chinese": "zh",
    "dutch": "nl",
    "english": "en",
    "french": "fr",
    "german": "de",
    "greek": "el",
    "hindi": "hi",
    "italian": "it",
    "japanese": "ja",
    "polish": "pl",
    "portuguese": "pt",
    "russian": "ru",
    "spanish": "es",
    "swahili": "sw",
    "thai": "th",
    "turkish": "tr",
    "urdu": "ur",
    "vietnamese": "vi",
}
ADULT: Final = ["porn", "sexual", "nudity"]
_VIOLENT: Final = ["graphic-media"]
# Labels that labelers apply, for what the classifiers there recognize.
MODERATION: Final = {
    "sexual": ADULT,
    "sexual/minors": ADULT,
    "violence": _VIOLENT,
    "violence/graphic": _VIOLENT,
    "hate": ["intolerant"],
    "hate/threatening": ["intolerant", "threat"],
    "harassment": ["rude", "threat"],
    "self-harm": ["self-harm"],
    "ok": [*ADULT, *_VIOLENT, "intolerant", "rude", "threat", "self-harm"],
}
TOXICITY: Final = {
    "toxic": ["rude", "intolerant", "threat"],
    "severe toxicity": ["rude", "intolerant", "threat"],
    "obscene": ["rude"],
    "threat": ["threat"],
    "insult": ["rude"],
    "identity hate": ["intolerant"],
}
_LIST: Final = re.compile(r"https://[^/]+/profile/([^/?#]+)/lists/([^/?#]+)")
_PACK: Final = re.compile(r"https://[^/]+/(?:starter-pack|start)/([^/?#]+)/([^/?#]+)")


def list_uri(value: Any, resolve: ResolveHandle) -> str:
    """Return the AT-URI of a list by AT-URI or address. Raises ValueError."""
    return _record_uri(value, _LIST, "app.bsky.graph.list", resolve)


def pack_uri(value: Any, resolve: ResolveHandle) -> str:
    """Return the AT-URI of a starter pack by AT-URI or address. Raises ValueError."""
    return _record_uri(value, _PACK, "app.bsky.graph.starterpack", resolve)


def _record_uri(
    value: Any, page: re.Pattern[str], collection: str, resolve: ResolveHandle
) -> str:
    text = value if isinstance(value, str) else ""
    match = page.match(text) or re.match(rf"at://([^/]+)/{collection}/([^/]+)$", text)
    if match is None:
        raise ValueError(f"write at://DID/{collection}/KEY instead of {text or value}")
    owner: str | None = match[1]
    if owner is not None and not is_did(owner):
        owner = resolve(owner.lower()) if is_handle(owner) else None
    if owner is None:
        raise ValueError(f"the account {match[1]} is not known; write its DID")
    return f"at://{owner}/{collection}/{match[2]}"


def account_name(value: Any) -> str:
    """Return a DID or handle. Raises ValueError."""
    name = value.removeprefix("@") if isinstance(value, str) else ""
    if is_did(name):
        return name
    if not is_handle(name):
        raise ValueError(f"{value} is neither a handle nor a DID")
    return name.lower()
