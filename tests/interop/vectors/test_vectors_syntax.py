"""The shared test vectors of identifiers and string formats."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol import syntax

CHECKS: dict[str, Callable[[str], bool]] = {
    "atidentifier": syntax.is_at_identifier,
    "aturi": syntax.is_at_uri,
    "cid": syntax.is_cid_text,
    "datetime": syntax.is_datetime,
    "did": syntax.is_did,
    "handle": syntax.is_handle,
    "language": syntax.is_language,
    "nsid": syntax.is_nsid,
    "recordkey": syntax.is_record_key,
    "tid": syntax.is_tid,
    "uri": syntax.is_uri,
}
VERDICTS = {
    "syntax_valid": True,
    "syntax_invalid": False,
    # Right by the grammar alone, yet no time and no language.
    "parse_invalid": False,
}

SUFFIXES = (
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    "\u0085",
    "\u00a0",
    "\u200b",
    "\u2028",
    "\ufeff",
    "\uff11",
    "\u212a",
)

pytestmark = pytest.mark.skipif(
    "ATPROTO_VECTORS" not in os.environ,
    reason="set ATPROTO_VECTORS to the folder of the interop test files",
)


def read_lines(kind: str, verdict: str) -> list[str]:
    file = Path(os.environ["ATPROTO_VECTORS"]) / "syntax" / f"{kind}_{verdict}.txt"
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").split("\n")
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("kind", CHECKS)
def test_valid_identifier_with_a_suffix_is_refused(kind: str) -> None:
    wrong = [
        line + suffix
        for line in read_lines(kind, "syntax_valid")
        for suffix in SUFFIXES
        if CHECKS[kind](line + suffix)
    ]
    assert wrong == []


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("kind", CHECKS)
def test_vectors(kind: str, verdict: str) -> None:
    lines = read_lines(kind, verdict)
    assert lines or verdict == "parse_invalid"
    expected = VERDICTS[verdict]
    wrong = [line for line in lines if CHECKS[kind](line) is not expected]
    assert wrong == []
