"""Feeds of Graze and SkyFeed in their published formats, with every kind of part."""

from __future__ import annotations

from typing import Any

OWNER = "did:plc:sample3sample3sample3sam"
LIST = f"at://{OWNER}/app.bsky.graph.list/3kgarden"
POST = f"at://{OWNER}/app.bsky.feed.post/3kgarden"

# A value of each kind of node that Graze's editor documents.
GRAZE_NODES: dict[str, list[Any]] = {
    "attribute_compare": ["reply", "==", None],
    "embed_type": ["==", "image"],
    "post_type": ["not_in", ["quote"]],
    "entity_matches": ["hashtags", ["gardening", "allotment"]],
    "entity_excludes": ["labels", ["spam"]],
    "regex_matches": [{"var": "text"}, "\\bcompost(ing|ed)?\\b", True],
    "regex_negation_matches": ["text", "(?i)giveaway|discount code", True],
    "regex_any": ["text", ["seedling", "raised bed"], True, False],
    "regex_none": ["text", ["casino", "crypto"], True, False],
    "social_graph": ["gardener.example.com", "in", "follows"],
    "social_list": [[OWNER], "in"],
    "starter_pack_member": [f"https://bsky.app/starter-pack/{OWNER}/3kpack", "in"],
    "list_member": [f"https://bsky.app/profile/{OWNER}/lists/3kgarden", "in"],
    "magic_audience": ["audience-17", "in"],
    "text_similarity": [
        "text",
        {"anchor_text": "growing tomatoes at home", "model_name": "all-MiniLM-L6-v2"},
        ">=",
        0.4,
    ],
    "model_probability": [{"model_name": "gardens"}, ">=", 0.8],
    "content_moderation": ["OK", ">=", 0.9],
    "language_analysis": ["Portuguese", ">=", 0.6],
    "sentiment_analysis": ["Positive", ">=", 0.5],
    "financial_sentiment_analysis": ["Neutral", ">=", 0.5],
    "emotion_sentiment_analysis": ["Joy", ">=", 0.5],
    "toxicity_analysis": ["Insult", "<", 0.2],
    "topic_analysis": ["Food & Dining", ">=", 0.5],
    "text_arbitrary": ["greenhouse", ">=", 0.5],
    "image_nsfw": ["NSFW", "<", 0.1],
    "image_arbitrary": ["flower", ">=", 0.5, 0.0],
}

# A block of each kind that SkyFeed's builder has.
SKYFEED_BLOCKS: dict[str, dict[str, Any]] = {
    "input/firehose": {"inputType": "firehose", "firehoseSeconds": 604_800},
    "input/list": {"inputType": "list", "listUri": LIST},
    "input/tags": {"inputType": "tags", "tags": ["gardening"]},
    "input/did": {"inputType": "did", "did": OWNER, "collection": "post|reply"},
    "input/post": {"inputType": "post", "postUri": POST},
    "input/feed": {
        "inputType": "feed",
        "feedUri": f"at://{OWNER}/app.bsky.feed.generator/other",
    },
    "regex": {"value": "\\b(compost|mulch)\\b", "target": "text|alt_text|link"},
    "remove/item": {"subject": "item", "value": "reply"},
    "remove/image_count": {"subject": "image_count", "value": "0"},
    "remove/like_count": {"subject": "like_count", "operator": "<", "value": 3},
    "remove/repost_count": {"subject": "repost_count", "operator": ">", "value": 90},
    "remove/reply_count": {"subject": "reply_count", "operator": "<", "value": 1},
    "remove/language": {"subject": "language", "operator": "!=", "language": "en"},
    "remove/list": {"subject": "list", "listUri": LIST},
    "remove/duplicates": {"subject": "duplicates"},
    "remove/embed": {"subject": "embed", "value": "post"},
    "sort/created_at": {"sortType": "created_at"},
    "sort/hn": {"sortType": "hn", "gravity": "1.8"},
    "sort/likes": {"sortType": "likes"},
    "sort/repost_count": {"sortType": "repost_count"},
    "sort/reply_count": {"sortType": "reply_count"},
    "sort/random": {"sortType": "random"},
    "limit": {"count": 200},
    "stash": {"action": "stash", "key": "gardens"},
    "replace": {"with": "root"},
}


def graze(*nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a manifest whose nodes must all hold."""
    return {"filter": {"and": [*nodes]}, **more}


def skyfeed(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a list of blocks."""
    return {"displayName": "Gardens", "blocks": [*blocks], **more}


def block(kind: str, **changes: Any) -> dict[str, Any]:
    """Return the sample block of a kind, with changes."""
    return {"type": kind.partition("/")[0], **SKYFEED_BLOCKS[kind], **changes}
