"""Errors of running Bigworld, as opposed to errors of what it reads.

ServiceError
 ├─ ConfigError            a setting is missing or wrong
 ├─ NoDatabaseError        there is no database yet, or none that answers
 ├─ EmbeddedServerError    PostgreSQL or Valkey of ours does not run
 │   └─ FolderInUseError   another process supervises it
 └─ SeedingError           the demo network could not be filled
"""

from __future__ import annotations


class ServiceError(Exception):
    """Something the operator must know; the message says what to do."""


class ConfigError(ServiceError):
    """A setting is missing or wrong."""


class NoDatabaseError(ServiceError):
    """There is no database yet, or none that answers."""


class EmbeddedServerError(ServiceError):
    """An embedded server could not be started or stopped."""


class FolderInUseError(EmbeddedServerError):
    """Another process supervises the server of this folder: `pid`, if it is known."""

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class SeedingError(ServiceError):
    """The demo network could not be filled."""
