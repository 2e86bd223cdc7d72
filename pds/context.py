"""The context of handlers: the parts of one server, made by `create_app`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Any, TypeVar

import anyio
from cachetools import LRUCache

from network.http.client import Fetcher
from network.identity.resolver import IdentityResolver
from network.server.spool import Spooler
from network.xrpc.cursor import open_cursor, seal_cursor
from network.xrpc.server import Auth, Call
from pds.exceptions import HandleNotAvailableError
from pds.identity.directory import Directory, local_document
from pds.identity.vault import Vault
from pds.mail import Mailer
from pds.proxy import ServiceProxy
from pds.rate_limits import MethodLimits
from pds.repo.block_rows import NodeCache
from pds.server.accounts import SIGNING_ROLE, Account, sealed_key
from pds.server.app_passwords import AppPasswords
from pds.server.email_tokens import EmailTokens
from pds.server.passwords import HashQueue
from pds.server.sessions import Login, Sessions
from pds.settings import PdsSettings
from pds.sync.sequencer import StoredEvents
from protocol.identity.keys import PrivateKey
from protocol.lexicon import Catalog
from protocol.syntax import INVALID_HANDLE, TidClock
from storage.postgres.pool import Conn, Pool

T = TypeVar("T")

SESSION_AUTH = "session"
OPERATOR_AUTH = "operator"
_LOGIN_CLAIM = "login"
_MAX_KEYS = 4096


class KeyRing:
    """A cache of opened signing keys, so that a write neither decrypts nor parses
    one."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        # By their did:key: an account that left and came back has another.
        self._keys: LRUCache[str, PrivateKey] = LRUCache(_MAX_KEYS)
        self._lock = Lock()

    def signing_key(self, conn: Conn, account: Account) -> PrivateKey:
        """Return the key that signs the account's commits and service tokens."""
        with self._lock:
            key = self._keys.get(account.signing_did_key)
        if key is None:
            sealed = sealed_key(conn, account.id, SIGNING_ROLE)
            key = self._vault.open(sealed, did=account.did, role=SIGNING_ROLE)
            with self._lock:
                self._keys[account.signing_did_key] = key
        return key

    def forget(self, account: Account) -> None:
        """Drop the key of a deleted account."""
        with self._lock:
            self._keys.pop(account.signing_did_key, None)


@dataclass(frozen=True, slots=True)
class PdsContext:
    """One server: its settings and parts."""

    settings: PdsSettings
    pool: Pool
    catalog: Catalog
    fetcher: Fetcher
    identity: IdentityResolver
    directory: Directory
    proxy: ServiceProxy
    sessions: Sessions
    vault: Vault
    keys: KeyRing
    clock: TidClock
    events: StoredEvents
    nodes: NodeCache
    limits: MethodLimits
    cursor_key: bytes
    hashing: HashQueue
    mailer: Mailer
    email_tokens: EmailTokens
    app_passwords: AppPasswords
    spooler: Spooler
    # Handles during a call to the directory: the unique index of the table would fail
    # too late. For the event loop only.
    pending_handles: set[str]

    @contextmanager
    def reading(self) -> Iterator[Conn]:
        """Yield a connection for single reads, without a transaction."""
        with self.pool.connection() as conn:
            conn.autocommit = True
            try:
                yield conn
            finally:
                if not conn.closed:
                    conn.autocommit = False

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Run blocking work in a thread."""
        return await anyio.to_thread.run_sync(work, *args)

    @contextmanager
    def claim_handle(self, handle: str) -> Iterator[None]:
        """Hold a handle during a call to the directory. HandleNotAvailableError."""
        if handle in self.pending_handles:
            raise HandleNotAvailableError(f"Handle already taken: {handle}")
        self.pending_handles.add(handle)
        try:
            yield
        finally:
            self.pending_handles.discard(handle)

    def open_page(self, call: Call, scope: str) -> Any:
        """Return the value in the cursor of a call; None without a cursor."""
        if "cursor" not in call.params:
            return None
        (after,) = open_cursor(self.cursor_key, call.params["cursor"], scope=scope)
        return after

    def seal_page(
        self, call: Call, scope: str, page: dict[str, Any], last: Any
    ) -> dict[str, Any]:
        """Add a cursor with the value `last` to a page that is full."""
        (items,) = page.values()
        if len(items) == call.params["limit"]:
            page["cursor"] = seal_cursor(self.cursor_key, [last], scope=scope)
        return page

    def did_document(self, account: Account) -> dict[str, Any]:
        """Return the account's DID document, as this server knows it."""
        return local_document(
            account.did,
            shown_handle(account),
            account.signing_did_key,
            self.settings.origin,
        )


def shown_handle(account: Account) -> str:
    """Return the handle for responses; the lexicons require one."""
    return account.handle or INVALID_HANDLE


def auth_of(login: Login) -> Auth:
    return Auth(login.account.did, SESSION_AUTH, {_LOGIN_CLAIM: login})


def login_of(call: Call) -> Login:
    """Return the login behind a call of a method that requires one."""
    login = call.viewer.claims[_LOGIN_CLAIM]
    assert isinstance(login, Login)
    return login


def is_operator(call: Call) -> bool:
    """Return True for a call with the operator's login."""
    return call.auth is not None and call.auth.kind == OPERATOR_AUTH


def may_read(call: Call, did: str) -> bool:
    """Return True if the caller is the operator, or the account itself."""
    own = call.auth is not None and call.auth.did == did
    return own or is_operator(call)


def utc_now() -> datetime:
    return datetime.now(UTC)


def now_us() -> int:
    return time.time_ns() // 1000
