"""Options of a Jetstream subscriber, from its query or an `options_update`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from protocol.data import json_form
from protocol.errors import ProtocolError
from protocol.syntax import is_did, is_nsid

MAX_COLLECTIONS: Final = 100
MAX_DIDS: Final = 10_000
_UPDATE: Final = "options_update"
_WILDCARD: Final = ".*"
# The part before the wildcard: the beginning of an NSID up to a dot.
_PREFIX: Final = re.compile(
    r"[a-zA-Z]([a-zA-Z0-9-]{0,62})?(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,62})?){0,30}"
)


class BadOptionsError(ValueError):
    """The options are malformed; the message names the fault."""


@dataclass(frozen=True, slots=True)
class Options:
    """Filters of a stream; an empty one lets everything pass.

    `collections` and `prefixes` (each ends in a dot) apply to commits, `dids` to all
    events. `max_bytes` 0 is no limit.
    """

    collections: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    dids: frozenset[str] = frozenset()
    max_bytes: int = 0

    def wants_account(self, did: str) -> bool:
        """Return True if events of the account are wanted."""
        return not self.dids or did in self.dids

    def wants_collection(self, collection: str | None) -> bool:
        """Return True if commits of the collection are wanted.

        None stands for events that are no commits: they always are.
        """
        if collection is None or not (self.collections or self.prefixes):
            return True
        return collection in self.collections or collection.startswith(self.prefixes)


def read_query(query: Sequence[tuple[str, str]]) -> Options:
    """Read the parameters of `/subscribe`. Raises BadOptionsError."""
    sizes = [value for name, value in query if name == "maxMessageSizeBytes"]
    return _read(
        [value for name, value in query if name == "wantedCollections"],
        [value for name, value in query if name == "wantedDids"],
        _number(sizes[0]) if sizes else 0,
    )


def read_update(text: str | bytes) -> Options | None:
    """Read a message of a subscriber; None if it is not about options.

    Filters that it does not name are lifted. Raises BadOptionsError.
    """
    try:
        message = json_form.loads(text)
    except ProtocolError as error:
        raise BadOptionsError("not JSON") from error
    if not isinstance(message, dict) or message.get("type") != _UPDATE:
        return None
    payload = message.get("payload")
    if not isinstance(payload, Mapping):
        raise BadOptionsError("options_update without a payload")
    size = payload.get("maxMessageSizeBytes", 0)
    if type(size) is not int:
        raise BadOptionsError("maxMessageSizeBytes is not a number")
    return _read(
        _texts(payload, "wantedCollections"), _texts(payload, "wantedDids"), size
    )


def _read(collections: Sequence[str], dids: Sequence[str], size: int) -> Options:
    # Clients send duplicates.
    names, wanted = frozenset(collections), frozenset(dids)
    if len(names) > MAX_COLLECTIONS:
        raise BadOptionsError(f"more than {MAX_COLLECTIONS} wantedCollections")
    if len(wanted) > MAX_DIDS:
        raise BadOptionsError(f"more than {MAX_DIDS} wantedDids")
    for did in wanted:
        if not is_did(did):
            raise BadOptionsError(f"wantedDids: {did[:80]!r} is not a DID")
    whole, prefixes = set(), []
    for name in sorted(names):
        stem = name.removesuffix(_WILDCARD)
        if stem != name and _PREFIX.fullmatch(stem):
            prefixes.append(f"{stem}.")
        elif is_nsid(name):
            whole.add(name)
        else:
            raise BadOptionsError(
                f"wantedCollections: {name[:80]!r} is neither an NSID nor the "
                "beginning of one with .*"
            )
    return Options(frozenset(whole), tuple(prefixes), wanted, max(0, size))


def _number(text: str) -> int:
    """Return the number in a text, 0 for an empty or malformed one."""
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text, re.ASCII) else 0


def _texts(payload: Mapping[str, Any], name: str) -> list[str]:
    found = payload.get(name) or []
    if not isinstance(found, list) or not all(type(item) is str for item in found):
        raise BadOptionsError(f"{name} is not a list of texts")
    return found
