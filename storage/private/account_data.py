"""All private data of one account: its export and its deletion."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from protocol.syntax import datetime_from_us
from storage.postgres.instants import to_micros
from storage.postgres.pool import Conn
from storage.private.feeds.feed_recipes import find_recipes, remove_recipe
from storage.private.match_webhooks import find_webhooks
from storage.private.mutes import mute_of
from storage.private.private_items import Kind
from storage.private.private_state import POSTS, REPLIES
from storage.private.saved_searches import delete_search, find_searches
from storage.private.sealing import Account

_ROWS: Final = 50
"""Rows that are read and decrypted together: drafts may be large."""
MAX_PAGE_BYTES: Final = 4_000_000

DataKey = tuple[int, int]
"""Kind and subject of an item."""


class DataPage(NamedTuple):
    """Items of an export, and the key of the last one if there may be more."""

    items: list[dict[str, Any]]
    after: DataKey | None


def export_page(
    conn: Conn, account: Account, limit: int, after: DataKey | None = None
) -> DataPage:
    """Return the next items of an account: at most `limit`, and about 4 MB."""
    items: list[dict[str, Any]] = []
    size = 0
    key = after or (0, -(2**63))
    while True:
        wanted = min(_ROWS, limit - len(items))
        rows = conn.execute(
            "SELECT kind, subject, sealed, at, flags FROM private_item"
            " WHERE account = %s AND (kind, subject) > (%s, %s)"
            " ORDER BY kind, subject LIMIT %s",
            (account.id, *key, wanted),
        ).fetchall()
        for kind, subject, sealed, at, flags in rows:
            key = (kind, subject)
            size += len(sealed)
            items.append(
                {
                    "kind": _name(Kind(kind)),
                    "at": datetime_from_us(to_micros(at)),
                    "value": _value(kind, account.open(kind, subject, sealed), flags),
                }
            )
        if len(rows) < wanted:
            return DataPage(items, None)
        if len(items) >= limit or size > MAX_PAGE_BYTES:
            return DataPage(items, key)


def export_all(conn: Conn, account: Account) -> Iterator[dict[str, Any]]:
    """Yield all items of an account, a page at a time."""
    after: DataKey | None = None
    while True:
        items, after = export_page(conn, account, _ROWS, after)
        yield from items
        if after is None:
            return


def export_searches(conn: Conn, account: Account) -> list[dict[str, Any]]:
    """Return the saved searches of an account."""
    searches = find_searches(conn, account.did)
    webhooks = find_webhooks(conn, [search.id for search in searches])
    return [
        {
            "query": search.query,
            "name": search.name,
            "collections": [*search.collections],
            "savedAt": datetime_from_us(to_micros(search.saved_at)),
        }
        | ({"webhook": webhooks[search.id].url} if search.id in webhooks else {})
        for search in searches
    ]


def delete_data(conn: Conn, account: Account) -> int:
    """Delete all items, saved searches and feeds of an account; return their number."""
    deleted = conn.execute(
        "DELETE FROM private_item WHERE account = %s", (account.id,)
    ).rowcount
    for search in find_searches(conn, account.did):
        deleted += delete_search(conn, account.did, search.id)
    for recipe in find_recipes(conn, account.did):
        deleted += remove_recipe(conn, account.did, recipe.rkey, datetime.now(UTC))
    return deleted


def _name(kind: Kind) -> str:
    first, *words = kind.name.lower().split("_")
    return first + "".join(word.capitalize() for word in words)


def _value(kind: int, value: Any, flags: int) -> Any:
    """Return the value of an item, with its flags by name."""
    if kind == Kind.MUTE:
        only_reposts, only_quotes = mute_of(flags)
        return value | {"onlyReposts": only_reposts, "onlyQuoteposts": only_quotes}
    if kind == Kind.ACTIVITY_SUBSCRIPTION:
        return value | {"post": bool(flags & POSTS), "reply": bool(flags & REPLIES)}
    # A value of the lexicon's type `unknown` is an object.
    return value if isinstance(value, dict) else {"items": value}
