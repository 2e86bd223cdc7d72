"""Saving of searches: the query is read, its handles resolved, its webhook checked."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from search.matches.match_log import load_tail
from search.matches.matcher import is_listed
from search.matches.saved_matcher import parse_saved
from search.query.operators import InvalidQueryError
from storage.collections import FEED_POST
from storage.postgres.pool import Conn
from storage.private.match_webhooks import delete_webhook, put_webhook
from storage.private.private_store import PrivateStore
from storage.private.saved_searches import SavedSearch, save_search
from storage.records.addresses import find_handles

MAX_URL_CHARS: Final = 1_000
_SECRET_BYTES: Final = 32
OpenIndex = Callable[[], AbstractContextManager[Conn]]


class UnknownSearchError(Exception):
    """The account has no saved search of this number."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A search to save; with `replace` it changes a saved one."""

    query: str
    name: str = ""
    collections: Sequence[str] = (FEED_POST,)
    webhook: str | None = None
    replace: int | None = None


def save_draft(
    private: PrivateStore, open_index: OpenIndex, owner: str, draft: Draft
) -> tuple[SavedSearch, bytes | None]:
    """Save a search of an account; return it, and the secret of a new webhook.

    Raises InvalidQueryError, TooManySearchesError or UnknownSearchError. Holds one
    connection at a time.
    """
    accounts: dict[str, str] = {}

    def resolve(handle: str) -> str:
        with open_index() as conn:
            did = find_handles(conn, [handle]).get(handle)
        if did is None:
            raise InvalidQueryError(f"no account of the index has the handle {handle}")
        return accounts.setdefault(handle, did)

    query = parse_saved(draft.query, owner, resolve)
    name = draft.name.replace("\0", "")
    if draft.webhook is not None:
        check_webhook(draft.webhook)
    with open_index() as conn:
        position = load_tail(conn)
    now = datetime.now(UTC)
    with private.write() as conn:
        saved = save_search(
            conn,
            owner,
            draft.query.replace("\0", " "),
            now,
            collections=tuple(dict.fromkeys(draft.collections)),
            accounts=accounts,
            listed=is_listed(query),
            name=name,
            replace=draft.replace,
        )
        if saved is None:
            raise UnknownSearchError(f"there is no saved search {draft.replace}")
        if draft.webhook is None:
            delete_webhook(conn, saved.id)
            return saved, None
        secret = secrets.token_hex(_SECRET_BYTES).encode()
        is_new = put_webhook(conn, saved.id, draft.webhook, secret, position, now)
    return saved, secret if is_new else None


def check_webhook(url: str) -> None:
    """Raise InvalidQueryError for a URL that can be no webhook.

    Where it leads to is checked for each delivery.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("https", "http") and bool(parts.hostname)
        usable = usable and parts.username is None and url.isascii()
    except ValueError:
        usable = False
    if not usable or len(url) > MAX_URL_CHARS or not url.isprintable() or " " in url:
        raise InvalidQueryError("webhook is not a URL; write https://example.com/path")
