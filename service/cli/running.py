"""Settings of the `up` that runs in a home; other commands in the same home inherit
them."""

from __future__ import annotations

import json
import os
from typing import Any, Final

from service.runtime.config import Config
from service.runtime.field_types import PREFIX
from service.runtime.home import write_private

_FILE: Final = "running.json"


def note_running(config: Config) -> None:
    """Store the settings of this process in its home."""
    noted = {"pid": os.getpid(), "settings": config.environment()}
    write_private(config.home / _FILE, noted)


def forget_running(config: Config) -> None:
    """Remove the stored settings."""
    (config.home / _FILE).unlink(missing_ok=True)


def read_beside() -> Config:
    """Read the settings of this process, and inherit others from the running `up`.

    Raises ConfigError.
    """
    config = Config.read()
    noted = _read_noted(config)
    if noted is None:
        if "port_base" in config.model_fields_set:
            return config
        from service.demo_network import at_remembered_ports

        return at_remembered_ports(config)
    theirs = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in noted["settings"].items()
    }
    own = {"home", *config.model_fields_set}
    return Config.read(**{n: value for n, value in theirs.items() if n not in own})


def _read_noted(config: Config) -> dict[str, Any] | None:
    """Return the note of the process that runs in the home, if one runs."""
    try:
        noted: dict[str, Any] = json.loads((config.home / _FILE).read_bytes())
    except FileNotFoundError:
        return None
    try:
        os.kill(noted["pid"], 0)
    except ProcessLookupError:
        # The process was killed.
        return None
    except PermissionError:
        # It runs as another user.
        pass
    return noted
