"""The provider of `bigworld serve`, without rate limits."""

from __future__ import annotations

from pathlib import Path

from starlette.types import ASGIApp

from service.provider import create_app
from service.runtime.config import Config

_UNLIMITED = 1_000_000


def make_provider(home: Path, url: str) -> ASGIApp:
    """Return the provider on the index at `url`, with its secrets in `home`."""
    return create_app(_config(home), url)


def provider_did(home: Path) -> str:
    """Return the DID of its own feeds."""
    return _config(home).provider_did


def _config(home: Path) -> Config:
    return Config.read(
        home=home, client_requests_per_s=_UNLIMITED, client_burst=_UNLIMITED
    )
