"""The settings of the network that runs in a home, for verbs that are typed beside it.

`bigworld up` has flags, and a demo network settings of its own; who types another verb
in another terminal means that network without saying all of it again.
"""

from __future__ import annotations

import json
import os
from typing import Any, Final

from service.runtime.config import Config
from service.runtime.field_types import PREFIX

_FILE: Final = "running.json"


def note_running(config: Config) -> None:
    """Write down what this process runs with; readable by us only."""
    config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = config.home / _FILE
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"pid": os.getpid(), "settings": config.environment()}, file)
    draft.replace(path)


def forget_running(config: Config) -> None:
    """Nothing runs in this home any more."""
    (config.home / _FILE).unlink(missing_ok=True)


def read_beside() -> Config:
    """The settings of this process; what it was not told is as in the network that
    runs in its home. Raises ConfigError."""
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
    """Return what the process that runs in the home noted, None if none runs."""
    try:
        noted: dict[str, Any] = json.loads((config.home / _FILE).read_bytes())
    except FileNotFoundError:
        return None
    try:
        os.kill(noted["pid"], 0)
    except ProcessLookupError:
        # Left behind by a process that was killed.
        return None
    except PermissionError:
        # It runs as another user.
        pass
    return noted
