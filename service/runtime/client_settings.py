"""Settings that clients ask the provider for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from protocol.data.json_form import from_json
from protocol.errors import ProtocolError
from protocol.lexicon import Catalog
from protocol.syntax import is_did, is_handle

AGE_ASSURANCE: Final = "app.bsky.ageassurance.defs#config"
MAX_FILE_BYTES: Final = 1_000_000


def read_age_assurance(path: Path | None) -> dict[str, Any]:
    """Return the regions in a JSON file; none without a file. Raises ValueError."""
    if path is None:
        return {"regions": []}
    try:
        raw = path.read_bytes()
        if len(raw) > MAX_FILE_BYTES:
            raise ValueError(f"more than {MAX_FILE_BYTES} bytes")
        found = json.loads(raw)
        Catalog.load().validate(AGE_ASSURANCE, from_json(found))
    except (OSError, ValueError, ProtocolError) as error:
        raise ValueError(f"age_assurance: {path}: {error}") from error
    return dict(found)


def live_domains(pairs: tuple[str, ...]) -> dict[str, list[str]]:
    """Return DID -> domains of pairs `DID=domain`. Raises ValueError."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        did, _, domain = pair.partition("=")
        if not is_did(did) or not is_handle(domain):
            raise ValueError(f"live_now: {pair!r} is not DID=domain")
        found.setdefault(did, []).append(domain)
    return found
