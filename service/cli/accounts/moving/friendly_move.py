"""A move with the help of the old server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from plc.operation_format import Operation, PlcService, operation_json
from protocol.syntax import Did
from service.account_backup import Backup, back_up
from service.cli.accounts.moving.refill import Refill, Tell, deactivate, service_did
from service.cli.accounts.moving.remote_account import SERVER, AskCode, RemoteAccount
from service.cli.accounts.plc_identity import (
    PlcIdentity,
    fetch_identity,
    now_ms,
    read_operation,
)
from service.operator_errors import ServiceError
from service.runtime.config import Config

IDENTITY: Final = "com.atproto.identity"
_MAX_COPIES: Final = 5
_PARTS: Final = ("rotationKeys", "alsoKnownAs", "verificationMethods", "services")

Fetch = Callable[[], PlcIdentity]


@dataclass(slots=True)
class FriendlyMove:
    """A move from `old` to the new server of `refill`.

    `fields` are those of createAccount. `recovery_key` is the owner's did:key, which
    stays above the new server's. With `drops_keys`, keys that may be the owner's are
    dropped. Each step may be repeated.
    """

    config: Config
    old: RemoteAccount
    refill: Refill
    fields: dict[str, Any]
    fetch: Fetch
    ask_code: AskCode
    tell: Tell
    max_blob_mb: int
    recovery_key: str | None = None
    drops_keys: bool = False

    @property
    def folder(self) -> Path:
        return self.refill.folder

    @property
    def did(self) -> Did:
        return Did(self.old.did)

    def run(self) -> None:
        """Do what is not done yet. Raises ServiceError."""
        new, state = self.refill.new, self.refill.state
        self.old.sign_in()
        if not state.finished:
            self._require_owner_keys()
        if not new.try_sign_in():
            token = self.old.query(
                f"{SERVER}.getServiceAuth",
                aud=service_did(new),
                lxm=f"{SERVER}.createAccount",
            )["token"]
            new.create(token, self.fields)
            self.tell(f"account opened at {new.url}")
        if not self.refill.is_home(self.fetch().state):
            self._copy()
            self._copy_preferences()
            self._change_identity()
        self.refill.finish(self.fetch().state)
        deactivate(self.old, self.tell)
        state.finished = True
        state.store(self.folder)

    def _require_owner_keys(self) -> None:
        """Raise ServiceError if the move would drop a key that may be the owner's."""
        doubtful = doubtful_keys(self.fetch(), self.old_keys(), self.recovery_key)
        if doubtful and not self.drops_keys and self.recovery_key is None:
            raise ServiceError(
                f"{self.old.url} names more rotation keys than its own: "
                f"{', '.join(doubtful)}. If one is yours, name it with --recovery-key;"
                " if none is, drop them with --drop-keys. Nothing was changed"
            )

    def _copy(self) -> None:
        """Copy until the old server has nothing newer."""
        for _ in range(_MAX_COPIES):
            backup = back_up(
                self.config,
                self.did,
                self.folder,
                self.max_blob_mb,
                lambda *_: None,
                source=self.old.url,
            )
            self.refill.fill()
            if not self._is_behind(backup):
                return
        raise ServiceError(f"{self.did} is written to all the time: stop that first")

    def _is_behind(self, backup: Backup) -> bool:
        latest = self.old.query("com.atproto.sync.getLatestCommit", did=self.did)
        return bool(latest["rev"] != backup.rev)

    def _copy_preferences(self) -> None:
        found = self.old.query("app.bsky.actor.getPreferences")["preferences"]
        body = {"preferences": found}
        self.refill.new.call("app.bsky.actor.putPreferences", body)

    def _change_identity(self) -> None:
        self.old.call(f"{IDENTITY}.requestPlcOperationSignature")
        code = self.ask_code(f"Code that {self.old.url} has mailed")
        # The mail takes time, in which the owner may have written.
        self._copy()
        identity = self.fetch()
        wanted = self._wanted(identity)
        values = operation_json(wanted)
        body = {name: values[name] for name in _PARTS} | {"token": code}
        reply = self.old.call(f"{IDENTITY}.signPlcOperation", body)
        operation = read_operation(reply.get("operation"))
        expected = replace(wanted, prev=operation.prev)
        if operation_json(replace(operation, sig="")) != operation_json(expected):
            raise ServiceError("the old server's operation is not the one asked for")
        identity.require_acceptable(operation, now_ms())
        self.refill.new.call(
            f"{IDENTITY}.submitPlcOperation", {"operation": operation_json(operation)}
        )
        self.tell("the identity names the new server")

    def _wanted(self, identity: PlcIdentity) -> Operation:
        keys = keys_of_move(identity, self.old_keys(), self.recovery_key)
        return moved_identity(identity.state, self.refill.recommended(), keys)

    def old_keys(self) -> list[str]:
        """Return the rotation keys that the old server recommends."""
        found = self.old.query(f"{IDENTITY}.getRecommendedDidCredentials")
        return [str(key) for key in found.get("rotationKeys", ())]


def keys_of_move(
    identity: PlcIdentity, old: list[str], recovery_key: str | None
) -> list[str]:
    """Return the owner's rotation keys, strongest first.

    Keys that the old server recommends are its own, except the owner's recovery key: no
    server tells the two apart.
    """
    kept = [key for key in identity.state.rotation_keys if key not in old]
    if recovery_key is not None:
        kept = [recovery_key, *(key for key in kept if key != recovery_key)]
    return kept


def doubtful_keys(
    identity: PlcIdentity, old: list[str], recovery_key: str | None
) -> list[str]:
    """Return the keys that the old server names above its own, its weakest."""
    mine = [key for key in identity.state.rotation_keys if key in old]
    return [key for key in mine[:-1] if key != recovery_key]


def moved_identity(
    state: Operation, recommended: dict[str, Any], keys: list[str]
) -> Operation:
    """Return an unsigned identity at a new server; `keys` are above the server's."""
    other = [name for name in state.also_known_as if not name.startswith("at://")]
    server_keys = [key for key in recommended["rotationKeys"] if key not in keys]
    services = {
        name: PlcService(str(service["type"]), str(service["endpoint"]))
        for name, service in recommended["services"].items()
    }
    return Operation(
        rotation_keys=(*keys, *server_keys),
        verification_methods=dict(state.verification_methods)
        | recommended["verificationMethods"],
        also_known_as=(*recommended["alsoKnownAs"], *other),
        services=dict(state.services) | services,
        prev=None,
    )


def fetch_with(config: Config, did: Did) -> Fetch:
    """Return a function that fetches an identity, its log verified."""
    return lambda: asyncio.run(fetch_identity(config, did))
