"""Recipes of feeds, by owner and record key, and their changes in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg.types.json import Jsonb

from storage.postgres.fetch import fetch_int
from storage.postgres.pool import Conn
from storage.private.change_log import ChangeLog

PROVIDER: Final = ""
"""Owner of the provider's own feeds, whose DID may change."""
IN_REPO: Final = "at://"
"""`file` of a recipe that is a record in the repo of its owner."""
MAX_RECIPES: Final = 50
"""Recipes of one account; the provider may have more."""
MAX_HOSTED: Final = 10_000
"""Recipes of all accounts."""
MAX_UNLISTED: Final = 100
"""Recipes of all accounts that every record must be checked for."""
_COLUMNS: Final = "id, changed, owner, rkey, recipe, accounts, file, saved_at"
_CHANGES: Final = ChangeLog("feed_recipe", _COLUMNS, "recipe")


class TooManyRecipesError(Exception):
    """No further recipe is accepted; the message says why."""


@dataclass(frozen=True, slots=True)
class StoredRecipe:
    """A recipe as it was saved; `text` is None after its removal.

    `accounts` has the DIDs of the handles in it. `file` is the name of the file that it
    was read from, IN_REPO for a record, empty for others.
    """

    id: int
    changed: int
    owner: str
    rkey: str
    text: str | None
    accounts: Mapping[str, str]
    file: str
    saved_at: datetime


def save_recipe(
    conn: Conn,
    owner: str,
    rkey: str,
    text: str,
    now: datetime,
    *,
    accounts: Mapping[str, str],
    listed: bool,
    file: str = "",
) -> StoredRecipe:
    """Store a recipe, in the place of one of the same owner and key.

    Raises TooManyRecipesError.
    """
    # Locks the counter, so that the limits hold.
    changed = _CHANGES.take_number(conn)
    if owner != PROVIDER:
        _check_limits(conn, owner, rkey, listed)
    row = conn.execute(
        f"""
        INSERT INTO feed_recipe
            (changed, owner, rkey, recipe, accounts, file, listed, saved_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (owner, rkey) DO UPDATE SET
            changed = excluded.changed, recipe = excluded.recipe,
            accounts = excluded.accounts, file = excluded.file,
            listed = excluded.listed, saved_at = excluded.saved_at
        RETURNING {_COLUMNS}
        """,
        (changed, owner, rkey, text, Jsonb(dict(accounts)), file, listed, now),
    ).fetchone()
    assert row is not None
    return StoredRecipe(*row)


def remove_recipe(conn: Conn, owner: str, rkey: str, now: datetime) -> bool:
    """Remove a recipe; return True if there was one."""
    changed = _CHANGES.take_number(conn)
    gone = conn.execute(
        "UPDATE feed_recipe SET changed = %s, recipe = NULL, saved_at = %s"
        " WHERE owner = %s AND rkey = %s AND recipe IS NOT NULL",
        (changed, now, owner, rkey),
    )
    return gone.rowcount > 0


def find_recipe(conn: Conn, owner: str, rkey: str) -> StoredRecipe | None:
    """Return a recipe, None if there is none."""
    row = conn.execute(
        f"SELECT {_COLUMNS} FROM feed_recipe"
        " WHERE owner = %s AND rkey = %s AND recipe IS NOT NULL",
        (owner, rkey),
    ).fetchone()
    return None if row is None else StoredRecipe(*row)


def find_recipes(conn: Conn, owner: str) -> list[StoredRecipe]:
    """Return the recipes of an account, by key."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM feed_recipe"
        " WHERE owner = %s AND recipe IS NOT NULL ORDER BY rkey",
        (owner,),
    )
    return [StoredRecipe(*row) for row in rows]


def find_recipes_in_repos(conn: Conn, *, after: int, limit: int) -> list[StoredRecipe]:
    """Return recipes that are records, in the order of their numbers."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM feed_recipe"
        " WHERE id > %s AND file = %s AND recipe IS NOT NULL ORDER BY id LIMIT %s",
        (after, IN_REPO, limit),
    )
    return [StoredRecipe(*row) for row in rows]


def load_recipe_changes(
    conn: Conn, seen: int, limit: int
) -> tuple[int, list[StoredRecipe]]:
    """Return the number of the last change, and recipes that changed after `seen`."""
    last, rows = _CHANGES.read(conn, seen, limit)
    return last, [StoredRecipe(*row) for row in rows]


def forget_removed_recipes(conn: Conn, before: datetime) -> int:
    """Delete the rows of recipes that were removed; return their number."""
    return _CHANGES.forget_removed(conn, before)


def _check_limits(conn: Conn, owner: str, rkey: str, listed: bool) -> None:
    others = fetch_int(
        conn,
        "SELECT count(*) FROM feed_recipe"
        " WHERE owner = %s AND rkey <> %s AND recipe IS NOT NULL",
        (owner, rkey),
    )
    if others >= MAX_RECIPES:
        raise TooManyRecipesError(f"at most {MAX_RECIPES} feeds of an account")
    hosted = fetch_int(
        conn,
        "SELECT count(*) FROM feed_recipe WHERE recipe IS NOT NULL AND owner <> %s"
        " AND (owner, rkey) <> (%s, %s)",
        (PROVIDER, owner, rkey),
    )
    if hosted >= MAX_HOSTED:
        raise TooManyRecipesError(f"this provider has {MAX_HOSTED} feeds of accounts")
    if listed:
        return
    unlisted = fetch_int(
        conn,
        "SELECT count(*) FROM feed_recipe"
        " WHERE NOT listed AND recipe IS NOT NULL AND owner <> %s"
        " AND (owner, rkey) <> (%s, %s)",
        (PROVIDER, owner, rkey),
    )
    if unlisted >= MAX_UNLISTED:
        raise TooManyRecipesError(
            "each source needs a word, a tag, an account or a link"
            " that every post must hold"
        )
