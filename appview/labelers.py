"""Labelers that a request accepts (specs/label), in the syntax of RFC 8941."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from network.xrpc.server import XrpcError
from protocol.syntax import is_did

ACCEPT_LABELERS: Final = "atproto-accept-labelers"
CONTENT_LABELERS: Final = "atproto-content-labelers"
MAX_LABELERS: Final = 20
MAX_HEADER_CHARS: Final = 8_192

# A list of items (RFC 8941, 3.1): bare items, here tokens or strings, each with
# parameters. Only boolean parameters are read.
_WORD: Final = r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*"
_STRING: Final = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_VALUE: Final = (
    rf"\?[01]|-?[0-9]{{1,15}}(?:\.[0-9]{{1,3}})?|{_STRING}|{_WORD}|:[A-Za-z0-9+/=]*:"
)
_PARAMETER: Final = re.compile(
    rf"[ \t]*;[ \t]*(?P<key>[a-z*][a-z0-9_.*-]*)(?:=(?P<value>{_VALUE}))?"
)
_ITEM: Final = re.compile(rf"{_WORD}|{_STRING}")
_COMMA: Final = re.compile(r"[ \t]*,[ \t]*")


@dataclass(frozen=True, slots=True)
class Labelers:
    """Accepted labelers, and those among them whose takedowns hide their subjects."""

    dids: tuple[str, ...] = ()
    redact: frozenset[str] = frozenset()

    @classmethod
    def default(cls, dids: tuple[str, ...]) -> Labelers:
        """Return the server's own choice, for requests without the header."""
        return cls(dids, frozenset(dids))

    def among(self, known: Collection[str]) -> Labelers:
        """Return the labelers that are known, in order."""
        dids = tuple(did for did in self.dids if did in known)
        return Labelers(dids, self.redact & {*dids})

    def header(self) -> str:
        """Return the value of `atproto-content-labelers`."""
        return ", ".join(
            f"{did};redact" if did in self.redact else did for did in self.dids
        )


def parse_labelers(header: str | None, default: tuple[str, ...]) -> Labelers:
    """Read `atproto-accept-labelers`: absent means the server's choice, empty none.

    Several header lines are joined by commas. Raises InvalidRequest for a header that
    is no list of DIDs.
    """
    if header is None:
        return Labelers.default(default)
    text = header.strip(" \t")
    found: dict[str, bool] = {}
    position = 0
    while text and len(text) <= MAX_HEADER_CHARS:
        item = _ITEM.match(text, position)
        if item is None:
            raise _malformed(text[position:])
        did, position = item[0].strip('"'), item.end()
        redact = False
        while (parameter := _PARAMETER.match(text, position)) is not None:
            if parameter["key"] == "redact":
                redact = parameter["value"] in (None, "?1")
            position = parameter.end()
        if not is_did(did):
            raise _malformed(did)
        found[did] = redact or found.get(did, False)
        if position == len(text):
            break
        comma = _COMMA.match(text, position)
        if comma is None or comma.end() == len(text):
            raise _malformed(text[position:])
        position = comma.end()
    if len(text) > MAX_HEADER_CHARS:
        raise _malformed(text)
    dids = tuple(found)[:MAX_LABELERS]
    return Labelers(dids, frozenset(did for did in dids if found[did]))


def _malformed(text: str) -> XrpcError:
    return XrpcError(
        "InvalidRequest", f"{ACCEPT_LABELERS}: not a list of DIDs: {text[:80]!r}", 400
    )
