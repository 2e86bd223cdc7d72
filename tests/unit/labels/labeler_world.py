"""Labelers with keys, whose messages are handed to their streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from small_world import did

from labels.label_stream import LabelStream
from labels.signed_label import sign_label
from network.errors import UnreachableError
from protocol.data.cbor import encode
from protocol.events.frames import encode_frame
from protocol.identity.did_document import DidDocument, Service
from protocol.identity.keys import PrivateKey
from storage.postgres.pool import Pool
from storage.records.interning import Interner

START = datetime(2026, 11, 1, tzinfo=UTC)
LABELER = did("labeler")
OTHER = did("other")


def document_of(name: str, key: PrivateKey | None, url: str) -> DidDocument:
    return DidDocument(
        did=name,  # type: ignore[arg-type]
        handles=(),
        signing_key=None,
        label_key=key.public.did_key if key else None,
        pds=None,
        services=(Service("#atproto_labeler", "AtprotoLabeler", url),),
    )


@dataclass
class Keys:
    """A resolver: `now` is found by a refresh, `cached` without one."""

    now: dict[str, PrivateKey | None] = field(default_factory=dict)
    cached: dict[str, PrivateKey | None] = field(default_factory=dict)
    refreshed: int = 0
    is_away: bool = False
    url: str = "https://labeler.example.com"

    async def resolve_did(
        self, name: str, *, refresh: bool = False, insist: int = 0
    ) -> DidDocument:
        if refresh:
            self.refreshed += 1
            if self.is_away:
                raise UnreachableError("the directory is away")
            self.cached[name] = self.now[name]
        key = self.cached.setdefault(name, self.now[name])
        return document_of(name, key, self.url)


class Labeler:
    """A labeler whose messages are stored as its stream would."""

    def __init__(self, name: str, pool: Pool, interner: Interner) -> None:
        self.did = name
        self.key = PrivateKey.generate("k256")
        self.keys = Keys({name: self.key})
        self.seq = 0
        self.moment = START
        self.stream = LabelStream(
            name,
            None,  # type: ignore[arg-type]
            self.keys,  # type: ignore[arg-type]
            pool,
            interner,
        )

    def signed(self, uri: str, val: str, **fields: Any) -> dict[str, Any]:
        """Return a label, by default a second newer than the one before."""
        self.moment += timedelta(seconds=1)
        made: dict[str, Any] = {"src": self.did, "cts": self.moment}
        made |= {"uri": uri, "val": val} | fields
        label = sign_label(self.key, **made)
        return {**label.fields, "sig": label.signature}

    def frame(self, *labels: Any, seq: int | None = None) -> bytes:
        self.seq += 1
        body: dict[str, Any] = {"seq": self.seq if seq is None else seq}
        return encode_frame("#labels", body | {"labels": [*labels]})

    async def send(self, *labels: Any) -> None:
        """Store one message."""
        await self.stream.take([self.frame(*labels)])

    async def label(self, uri: str, val: str, **fields: Any) -> None:
        await self.send(self.signed(uri, val, **fields))


def resign(label: Mapping[str, Any], key: PrivateKey, **changes: Any) -> dict[str, Any]:
    """Return a label with other fields and a valid signature."""
    made = {k: v for k, v in (dict(label) | changes).items() if k != "sig"}
    made = {k: v for k, v in made.items() if v is not None}
    return made | {"sig": key.sign(encode(made))}
