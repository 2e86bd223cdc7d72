"""app.bsky.actor.{getPreferences, putPreferences}: the one bit of app.bsky that is an
account's own and stays at home."""

from __future__ import annotations

from typing import Any, Final

from network.xrpc.server import Call, XrpcServer
from pds.host import Host, login_of
from pds.server.preferences import read_preferences, write_preferences

GET_PREFERENCES: Final = "app.bsky.actor.getPreferences"
PUT_PREFERENCES: Final = "app.bsky.actor.putPreferences"


def add_methods(server: XrpcServer, host: Host) -> None:
    """Register this module's methods."""

    def get_preferences(call: Call) -> dict[str, Any]:
        with host.reading() as conn:
            return {"preferences": read_preferences(conn, login_of(call).account.id)}

    def put_preferences(call: Call) -> None:
        with host.pool.connection() as conn:
            write_preferences(
                conn, login_of(call).account.id, call.input["preferences"]
            )

    server.add(GET_PREFERENCES, get_preferences, "required")
    server.add(PUT_PREFERENCES, put_preferences, "required")
