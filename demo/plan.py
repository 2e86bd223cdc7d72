"""Planned records, before any account has a DID or a record a CID.

Records refer to others by placeholders, which `fill_in` replaces once the servers have
assigned DIDs, CIDs and blobs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from demo.phrases import Language

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DemoAccount:
    """A planned account. `server` is the index of its PDS."""

    number: int
    handle: str
    display_name: str
    language: Language
    topic: str
    other_topic: str
    server: int
    weight: float


@dataclass(frozen=True, slots=True)
class Address:
    """Address of a planned record: an AT-URI with an account number for the DID."""

    account: int
    collection: str
    rkey: str


@dataclass(frozen=True, slots=True)
class DidOf:
    """Placeholder for the DID of an account."""

    account: int


@dataclass(frozen=True, slots=True)
class UriOf:
    """Placeholder for the AT-URI of a record."""

    address: Address


@dataclass(frozen=True, slots=True)
class StrongRef:
    """Placeholder for the URI and CID of a record of an earlier round."""

    address: Address


@dataclass(frozen=True, slots=True)
class Picture:
    """Placeholder for a blob on the server of the record's author."""

    png: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """A record to write; its strong references are to drafts of lower rounds."""

    address: Address
    record: Json
    round: int


@dataclass(frozen=True, slots=True)
class DemoNetwork:
    """All accounts and their drafts, in order of time."""

    accounts: tuple[DemoAccount, ...]
    drafts: tuple[Draft, ...]

    @property
    def rounds(self) -> int:
        return 1 + max(draft.round for draft in self.drafts)


def uri_of(address: Address, dids: Mapping[int, str]) -> str:
    """Return the AT-URI of an address."""
    return f"at://{dids[address.account]}/{address.collection}/{address.rkey}"


def fill_in(
    value: Any,
    dids: Mapping[int, str],
    cids: Mapping[Address, str],
    blob: Callable[[bytes], Json],
) -> Any:
    """Return `value` with its placeholders replaced."""
    match value:
        case dict():
            return {key: fill_in(v, dids, cids, blob) for key, v in value.items()}
        case list():
            return [fill_in(v, dids, cids, blob) for v in value]
        case DidOf(account):
            return dids[account]
        case UriOf(address):
            return uri_of(address, dids)
        case StrongRef(address):
            return {"uri": uri_of(address, dids), "cid": cids[address]}
        case Picture(png):
            return blob(png)
        case _:
            return value


def pictures_in(value: Any) -> list[bytes]:
    """Return the pictures of a planned record."""
    match value:
        case dict():
            return [png for v in value.values() for png in pictures_in(v)]
        case list():
            return [png for v in value for png in pictures_in(v)]
        case Picture(png):
            return [png]
        case _:
            return []
