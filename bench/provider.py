"""The provider as a benchmark asks it: that of `bigworld serve`, without the limits of
requests a minute."""

from __future__ import annotations

from pathlib import Path

from starlette.types import ASGIApp

from service.provider import create_app
from service.runtime.config import Config

_UNLIMITED = 1_000_000


def make_provider(home: Path, url: str) -> ASGIApp:
    """The provider on the index at `url`; its secrets are kept in `home`."""
    return create_app(_config(home), url)


def provider_did(home: Path) -> str:
    """The DID under which it serves its own feeds."""
    return _config(home).provider_did


def _config(home: Path) -> Config:
    return Config.read(
        home=home, client_requests_per_s=_UNLIMITED, client_burst=_UNLIMITED
    )
