"""The attacked provider: that of `bigworld serve`, in a process of its own."""

from __future__ import annotations

from pathlib import Path

from starlette.types import ASGIApp

from service.provider import create_app
from service.runtime.config import Config


def make_app(home: Path, url: str) -> ASGIApp:
    """Return the provider on the index at `url`."""
    return create_app(Config.read(home=home, event_log=True), url)
