"""Accounts on the command line: DIDs or handles."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import psycopg

from service.operator_errors import ConfigError, NoDatabaseError, ServiceError
from service.runtime.config import Config

if TYPE_CHECKING:
    from protocol.syntax.did import Did

_NEITHER = (
    "{text!r} is neither a DID nor a handle; give the account as did:plc:… or as "
    "alice.example.com"
)


def find_accounts(config: Config, texts: Sequence[str]) -> list[Did]:
    """Return the DIDs of accounts given by DID or handle.

    Handles are resolved in the index if there is one, then in the network. Raises
    ConfigError for invalid names, ServiceError for handles that do not resolve.
    """
    names = [_parse(text) for text in texts]
    handles = [name for name in names if not name.startswith("did:")]
    dids = _find_indexed(config, handles) if handles else {}
    missing = [handle for handle in handles if handle not in dids]
    if missing:
        dids |= asyncio.run(_resolve(config, missing))
    from protocol.syntax.did import Did

    return [Did(dids.get(name, name)) for name in names]


def find_account(config: Config, text: str) -> Did:
    """Return the DID of one account; see `find_accounts`."""
    return find_accounts(config, [text])[0]


def _parse(text: str) -> str:
    """Parse a DID, or a handle to lower case."""
    from protocol.errors import InvalidSyntaxError
    from protocol.syntax.did import parse_did
    from protocol.syntax.handle import normalize_handle

    name = text.strip().removeprefix("at://").removeprefix("@").rstrip("/")
    try:
        if name.startswith("did:"):
            return parse_did(name)
        return normalize_handle(name)
    except InvalidSyntaxError:
        raise ConfigError(_NEITHER.format(text=text)) from None


def _find_indexed(config: Config, handles: Sequence[str]) -> dict[str, str]:
    """Return the DIDs of indexed handles."""
    from service.runtime.databases import INDEX, open_existing

    try:
        with (
            open_existing(config, INDEX) as url,
            psycopg.connect(url, connect_timeout=5) as conn,
        ):
            rows = conn.execute(
                "SELECT handle, did FROM actor WHERE handle = ANY(%s)", (list(handles),)
            )
            return dict(rows.fetchall())
    except NoDatabaseError:
        return {}


async def _resolve(config: Config, handles: Sequence[str]) -> dict[str, str]:
    from network.errors import IdentityError, NetworkError
    from service.outgoing import make_fetcher, make_resolver

    found: dict[str, str] = {}
    async with make_fetcher(config) as fetcher:
        resolver = make_resolver(config, fetcher)
        for handle in handles:
            try:
                document, _ = await resolver.resolve_identity(handle)
            except (IdentityError, NetworkError) as error:
                detail = "" if str(error) in ("", handle) else f": {error}"
                raise ServiceError(
                    f"no account has the handle {handle}{detail}; check the spelling, "
                    "or give the account's DID"
                ) from None
            found[handle] = document.did
    return found
