"""Secrets, generated on first use and kept in $BIGWORLD_HOME/secrets."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from protocol.identity.keys import PrivateKey
from service.operator_errors import ConfigError
from service.runtime.config import Config
from storage.private.sealing import Vault

SECRET_BYTES = 32
PLC_BYPASS = "plc-bypass"
"""Secret with which our PDSes bypass our directory's limits per address."""

PRIVATE_STATE = "private-state"
"""Secret that private state is encrypted with: without it, it is lost."""


class SecretStore:
    """A private folder with one file per secret."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "secrets"

    def key(self, name: str) -> bytes:
        """Return the 32 random bytes stored under `name`."""
        text = self._load(name, lambda: secrets.token_hex(SECRET_BYTES))
        try:
            value = bytes.fromhex(text)
        except ValueError:
            value = b""
        if len(value) != SECRET_BYTES:
            raise ConfigError(f"{self._folder / name} is damaged: not 32 bytes of hex")
        return value

    def password(self, name: str) -> str:
        """Return the random password stored under `name`."""
        return self._load(name, lambda: secrets.token_urlsafe(18))

    def _load(self, name: str, make: Callable[[], str]) -> str:
        path = self._folder / name
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        if not path.exists():
            # Written under another name first: processes that start together must
            # never read half a file, or different secrets.
            draft = self._folder / f".{name}.{secrets.token_hex(8)}"
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(make() + "\n")
                file.flush()
                os.fsync(descriptor)
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        path.chmod(0o600)
        return path.read_text().strip()


def admin_password(config: Config) -> str:
    """Return the configured admin password, or the one generated for this home."""
    if config.admin_password is not None:
        return config.admin_password.get_secret_value()
    return SecretStore(config.home).password("admin-password")


def label_key(config: Config) -> PrivateKey:
    """Return the key that signs the labels of this service."""
    return PrivateKey("k256", SecretStore(config.home).key("label-key"))


def private_vault(config: Config) -> Vault:
    """Return the keys of private state, from this home's secret."""
    return Vault(SecretStore(config.home).key(PRIVATE_STATE))
