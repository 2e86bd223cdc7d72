"""The provider as a benchmark asks it: that of `bigworld serve`, with nothing set."""

from __future__ import annotations

from pathlib import Path

from starlette.types import ASGIApp

from service.config import Config
from service.provider import create_app


def make_provider(home: Path, url: str) -> ASGIApp:
    """The provider on the index at `url`; its secrets are kept in `home`."""
    return create_app(_config(home), url)


def provider_did(home: Path) -> str:
    """The DID under which it serves its own feeds."""
    return _config(home).provider_did


def _config(home: Path) -> Config:
    return Config.read(home=home)
