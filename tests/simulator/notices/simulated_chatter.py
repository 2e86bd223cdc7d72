"""Records that notify in every way: mentions, quotes, deep replies, references to the
repost or starter pack by which a record was found, verifications."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

from libipld import encode_dag_cbor

from bench.fake_accounts import BLOCK, FOLLOW, LIKE, POST, PROFILE, REPOST
from protocol.data.cbor import decode_fast
from protocol.data.cid import cid_to_text
from protocol.syntax import datetime_from_us

STARTER_PACK: Final = "app.bsky.graph.starterpack"
VERIFICATION: Final = "app.bsky.graph.verification"
PLAIN: Final = frozenset({BLOCK, FOLLOW, LIKE, POST, PROFILE, REPOST})
"""Collections whose records the benchmarks make."""

_LATEST: Final = 12
"""Posts of which one becomes the parent of a reply, so that threads get deep."""

Value = dict[str, Any]


class Chatter:
    """Adds what notifies to records that are drawn elsewhere."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._posts: list[tuple[str, str, Value]] = []
        self._reposts: list[tuple[str, str, Value]] = []
        self._packs: list[tuple[str, str, Value]] = []

    def note(self, uri: str, raw: bytes, cid: bytes) -> None:
        """Remember a record that others may refer to."""
        kind = uri.split("/")[3]
        kept = {POST: self._posts, REPOST: self._reposts, STARTER_PACK: self._packs}
        if kind in kept:
            kept[kind].append((uri, cid_to_text(cid), decode_fast(raw)))

    def kind(self) -> str | None:
        """Draw a rare collection, mostly none."""
        return self._draw.choices((None, VERIFICATION, STARTER_PACK), (96, 3, 1))[0]

    def enrich(
        self, did: str, kind: str, raw: bytes | None, when: int, dids: Sequence[str]
    ) -> bytes:
        """Return a record with more references; `raw` None: a new one."""
        draw = self._draw
        value: Value = {} if raw is None else decode_fast(raw)
        if kind == POST:
            self._enrich_post(value, dids)
        elif kind in (LIKE, REPOST) and self._reposts and draw.random() < 0.2:
            uri, cid, repost = draw.choice(self._reposts)
            value["subject"] = repost["subject"]
            value["via"] = {"uri": uri, "cid": cid}
        elif kind == PROFILE and self._packs:
            value["joinedViaStarterPack"] = _reference(draw.choice(self._packs))
        elif kind == VERIFICATION:
            value = _made(kind, when) | {
                "subject": draw.choice(dids),
                "handle": "someone.test",
                "displayName": "someone",
            }
        elif kind == STARTER_PACK:
            value = _made(kind, when) | {
                "name": "a pack",
                "list": f"at://{did}/app.bsky.graph.list/3kabcdefghi2a",
            }
        elif raw is not None:
            return raw
        found: bytes = encode_dag_cbor(value)
        return found

    def _enrich_post(self, value: Value, dids: Sequence[str]) -> None:
        draw = self._draw
        if "reply" in value and self._posts:
            parent = draw.choice(self._posts[-_LATEST:])
            root = parent[2].get("reply", {}).get("root") or _reference(parent)
            value["reply"] = {"root": root, "parent": _reference(parent)}
        if draw.random() < 0.2:
            value["facets"] = [
                {
                    "index": {"byteStart": 0, "byteEnd": 1},
                    "features": [
                        {
                            "$type": "app.bsky.richtext.facet#mention",
                            "did": draw.choice(dids),
                        }
                    ],
                }
            ]
        if "embed" not in value and self._posts and draw.random() < 0.2:
            record = _reference(draw.choice(self._posts))
            value["embed"] = {"$type": "app.bsky.embed.record", "record": record}


def _made(kind: str, when: int) -> Value:
    return {"$type": kind, "createdAt": datetime_from_us(when)}


def _reference(record: tuple[str, str, Value]) -> dict[str, str]:
    return {"uri": record[0], "cid": record[1]}
