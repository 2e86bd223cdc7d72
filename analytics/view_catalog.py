"""Views of the schema `analytics`, described for the reference page."""

from __future__ import annotations

from typing import Final, NamedTuple


class View(NamedTuple):
    """A view: its content, and the meaning of each column."""

    note: str
    columns: dict[str, str]


_ACCOUNT: Final = {"did": "the account"}
_KEY: Final = _ACCOUNT | {"rkey": "record key"}
_CREATED: Final = {
    "created_at": "the earlier of the time that the author claims and of indexing"
}


def _edge(subject: str, note: str) -> dict[str, str]:
    return _KEY | {subject: note} | _CREATED


VIEWS: Final[dict[str, View]] = {
    "actors": View(
        "Accounts that are active and not taken down.",
        {
            "did": "permanent identifier",
            "handle": "verified handle",
            "display_name": "name of the profile",
            "description": "text of the profile",
            "created_at": "time that the profile claims",
            "indexed_at": "time the account was first seen",
            "followers": "counted once for each account",
            "follows": "counted once for each account",
            "posts": "stored posts",
            "host": "its PDS",
        },
    ),
    "posts": View(
        "Posts with their counts.",
        {"uri": "AT-URI"}
        | _KEY
        | {
            "created_at": "time that the author claims",
            "indexed_at": "time of indexing",
            "sort_at": "the earlier of both",
            "text": "text; null without `BIGWORLD_SQL_RECORDS`",
            "langs": "declared languages",
            "reply_parent": "AT-URI of the post it replies to",
            "reply_root": "AT-URI of the first post of the thread",
            "likes": "accounts that like it",
            "reposts": "accounts that repost it",
            "replies": "direct replies",
            "quotes": "quoting posts",
        },
    ),
    "likes": View(
        "Likes of posts and other records, one for each account and subject.",
        _edge("subject_uri", "AT-URI of the record"),
    ),
    "reposts": View(
        "Reposts, one for each account and subject.",
        _edge("subject_uri", "AT-URI of the record"),
    ),
    "follows": View(
        "Follows, one for each account and subject.",
        _edge("subject_did", "the followed account"),
    ),
    "blocks": View(
        "Blocks, one for each account and subject.",
        _edge("subject_did", "the blocked account"),
    ),
    "lists": View(
        "Lists of accounts.",
        {"uri": "AT-URI"}
        | _KEY
        | {
            "purpose": "NSID of the purpose",
            "name": "name",
            "description": "text",
            "created_at": "time that the author claims",
            "indexed_at": "time of indexing",
        },
    ),
    "links": View(
        "Every edge of every lexicon.",
        {"did": "the account", "collection": "NSID of the record"}
        | {"rkey": "record key", "path": "place of the link in the record"}
        | {"target": "DID or AT-URI that it points to"}
        | _CREATED,
    ),
    "labels": View(
        "Newest label of each kind from each labeler.",
        {
            "src": "DID of the labeler",
            "uri": "DID or AT-URI of the subject",
            "val": "value",
            "neg": "true if it was withdrawn",
            "cts": "time of the label",
            "exp": "time it expires",
        },
    ),
    "hosts": View(
        "Hosts and their accounts.",
        {
            "host": "name of the PDS",
            "state": "state of the crawl",
            "accounts": "known accounts",
            "synchronized": "accounts whose repos are complete",
        },
    ),
    "records": View(
        "Records as JSON: of searched collections, with `BIGWORLD_SQL_RECORDS`.",
        {"uri": "AT-URI", "did": "the account", "collection": "NSID"}
        | {"rkey": "record key", "record": "the record"},
    ),
    "activity_hours": View(
        "Records by hour of the last 34 days, exact.",
        {
            "hour": "begin of the hour, UTC",
            "kind": "posts, likes, reposts, follows or blocks",
            "records": "records that are stored now",
        },
    ),
    "activity_days": View(
        "Records by day, exact. Dates before 2022 count on 2022-01-01.",
        {
            "day": "day, UTC",
            "kind": "posts, likes, reposts, follows or blocks",
            "records": "records that are stored now",
        },
    ),
    "language_days": View(
        "Posts by declared language and day, exact.",
        {
            "day": "day, UTC",
            "lang": "language without region",
            "posts": "posts that declare it",
        },
    ),
    "active_days": View(
        "Accounts that posted or liked on a day, counted until the next day ends.",
        {"day": "day, UTC", "accounts": "distinct accounts"},
    ),
}
