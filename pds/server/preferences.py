"""Private preferences of an account: never in the repo, never on the stream."""

from __future__ import annotations

from typing import Any

import orjson

from network.xrpc.server import Call, XrpcServer
from pds.context import PdsContext, login_of
from pds.exceptions import InvalidRequestError
from pds.server.scopes import FULL
from storage.postgres.pool import Conn

MAX_PREFERENCES_BYTES = 256 * 1024
# The birth date is for no app.
_FULL_ONLY = frozenset({"app.bsky.actor.defs#personalDetailsPref"})
INDEXER_PREFERENCE = "dev.bigworld.actor.defs#indexerPref"


def add_methods(server: XrpcServer, host: PdsContext) -> None:
    def get_preferences(call: Call) -> dict[str, Any]:
        login = login_of(call)
        with host.reading() as conn:
            found = read_preferences(conn, login.account.id)
        if login.scope != FULL:
            found = [item for item in found if item["$type"] not in _FULL_ONLY]
        return {"preferences": found}

    def put_preferences(call: Call) -> None:
        login, given = login_of(call), call.input["preferences"]
        with host.pool.connection() as conn:
            if login.scope != FULL:
                _refuse_full_only(given)
                # An app replaces what it sees.
                kept = read_preferences(conn, login.account.id)
                given = [i for i in kept if i["$type"] in _FULL_ONLY] + given
            write_preferences(conn, login.account.id, given)

    server.add("app.bsky.actor.getPreferences", get_preferences, "required")
    server.add("app.bsky.actor.putPreferences", put_preferences, "required")


def _refuse_full_only(preferences: list[dict[str, Any]]) -> None:
    for preference in preferences:
        if preference["$type"] in _FULL_ONLY:
            raise InvalidRequestError(
                f"Do not have authorization to set preferences: {preference['$type']}"
            )


def read_preferences(conn: Conn, account: int) -> list[dict[str, Any]]:
    """Return the preference objects, as they were put."""
    row = conn.execute(
        "SELECT value FROM preference WHERE account = %s", [account]
    ).fetchone()
    return [] if row is None else list(orjson.loads(row[0]))


def write_preferences(
    conn: Conn, account: int, preferences: list[dict[str, Any]]
) -> None:
    """Replace all preferences. Raises InvalidRequestError."""
    for preference in preferences:
        if preference["$type"] == INDEXER_PREFERENCE and (
            not isinstance(preference.get("service"), str)
            or preference["service"].count("#") != 1
        ):
            raise InvalidRequestError("service of an indexerPref must be did#fragment")
    text = orjson.dumps(preferences).decode()
    if len(text) > MAX_PREFERENCES_BYTES:
        raise InvalidRequestError("preferences are too large")
    # Postgres text holds no NUL; JSON escapes it.
    conn.execute(
        "INSERT INTO preference (account, value) VALUES (%s, %s)"
        " ON CONFLICT (account) DO UPDATE SET value = excluded.value",
        [account, text],
    )


def preferred_indexer(conn: Conn, account: int) -> str | None:
    """Return the `did#fragment` that the account chose."""
    for preference in read_preferences(conn, account):
        if preference.get("$type") == INDEXER_PREFERENCE:
            return str(preference["service"])
    return None
