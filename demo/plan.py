"""What a planned record is, before anybody has a DID or a CID.

A record names other records and people by placeholders, which `fill_in` replaces once
the servers have said what the DIDs, CIDs and blobs are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from demo.phrases import Speech

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Person:
    """One member of the society. `server` numbers the PDS that holds the account."""

    number: int
    handle: str
    display_name: str
    speech: Speech
    topic: str
    other_topic: str
    server: int
    weight: float


@dataclass(frozen=True, slots=True)
class Address:
    """Where a record will stand: the AT-URI, but with a person for the DID."""

    person: int
    collection: str
    rkey: str


@dataclass(frozen=True, slots=True)
class DidOf:
    """Placeholder: the DID of a person."""

    person: int


@dataclass(frozen=True, slots=True)
class UriOf:
    """Placeholder: the AT-URI of a record."""

    address: Address


@dataclass(frozen=True, slots=True)
class StrongRef:
    """Placeholder: URI and CID of a record of an earlier round."""

    address: Address


@dataclass(frozen=True, slots=True)
class Picture:
    """Placeholder: a blob, uploaded to the server of the record's author."""

    png: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """One record to write. It may refer strongly only to drafts of lower rounds."""

    address: Address
    record: Json
    round: int


@dataclass(frozen=True, slots=True)
class Society:
    """Everybody and everything they will write, in order of time a person."""

    people: tuple[Person, ...]
    drafts: tuple[Draft, ...]

    @property
    def rounds(self) -> int:
        return 1 + max(draft.round for draft in self.drafts)


def uri_of(address: Address, dids: Mapping[int, str]) -> str:
    """The AT-URI of an address."""
    return f"at://{dids[address.person]}/{address.collection}/{address.rkey}"


def fill_in(
    value: Any,
    dids: Mapping[int, str],
    cids: Mapping[Address, str],
    blob: Callable[[bytes], Json],
) -> Any:
    """`value` with every placeholder replaced by what it stands for."""
    match value:
        case dict():
            return {key: fill_in(v, dids, cids, blob) for key, v in value.items()}
        case list():
            return [fill_in(v, dids, cids, blob) for v in value]
        case DidOf(person):
            return dids[person]
        case UriOf(address):
            return uri_of(address, dids)
        case StrongRef(address):
            return {"uri": uri_of(address, dids), "cid": cids[address]}
        case Picture(png):
            return blob(png)
        case _:
            return value


def pictures_in(value: Any) -> list[bytes]:
    """Every picture a planned record holds."""
    match value:
        case dict():
            return [png for v in value.values() for png in pictures_in(v)]
        case list():
            return [png for v in value for png in pictures_in(v)]
        case Picture(png):
            return [png]
        case _:
            return []
