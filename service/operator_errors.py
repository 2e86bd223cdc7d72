"""Errors for the operator, each with a message that says what to do.

ServiceError
 ├─ ConfigError            a setting is missing or wrong
 ├─ NoDatabaseError        there is no database, or it does not answer
 ├─ EmbeddedServerError    the embedded PostgreSQL or Valkey does not run
 │   └─ FolderInUseError   another process supervises it
 └─ SeedingError           the demo network could not be seeded
"""

from __future__ import annotations


class ServiceError(Exception):
    """A failure for the operator; the message says what to do."""


class ConfigError(ServiceError):
    """A setting is missing or wrong."""


class NoDatabaseError(ServiceError):
    """There is no database, or it does not answer."""


class EmbeddedServerError(ServiceError):
    """An embedded server could not be started or stopped."""


class FolderInUseError(EmbeddedServerError):
    """Another process, `pid` if known, supervises the server of this folder."""

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class SeedingError(ServiceError):
    """The demo network could not be seeded."""
