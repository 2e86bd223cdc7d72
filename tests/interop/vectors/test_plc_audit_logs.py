"""The shared audit logs of PLC implementations, valid and invalid.

PLC_VECTORS names the folder `interop_tests` of the did-method-plc repository.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from plc.operation import verify_audit_log
from protocol.errors import ProtocolError
from protocol.syntax import parse_did

FOLDER = os.environ.get("PLC_VECTORS")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="set PLC_VECTORS to the shared audit logs of did:plc"
)


def logs(verdict: str) -> list[Any]:
    folder = Path(FOLDER or "/nonexistent") / "audit_log" / verdict
    found = [pytest.param(path, id=path.stem) for path in sorted(folder.glob("*.json"))]
    return found or [pytest.param(folder, id="none")]


def read(path: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(path.read_bytes())
    return entries


@pytest.mark.parametrize("path", logs("valid"))
def test_valid_logs_hold(path: Path) -> None:
    entries = read(path)
    audited = verify_audit_log(parse_did(entries[0]["did"]), entries)
    assert [e.nullified for e in audited.entries] == [e["nullified"] for e in entries]


@pytest.mark.parametrize("path", logs("invalid"))
def test_invalid_logs_are_refused(path: Path) -> None:
    entries = read(path)
    with pytest.raises(ProtocolError):
        verify_audit_log(parse_did(entries[0]["did"]), entries)
