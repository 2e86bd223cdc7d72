"""The verification of `#sync` messages."""

from __future__ import annotations

from typing import Any

import pytest
from handmade_commits import DID, KEY, NOW_US, REV, Body, car_of

from crawler.live.rejections import RejectedError, drop_reason
from crawler.live.verify import verify_sync
from protocol.errors import InvalidSignatureError, ProtocolError
from protocol.events.drops import DropReason
from protocol.identity.keys import PrivateKey
from protocol.mst import EMPTY_NODE, EMPTY_ROOT
from protocol.repo.car import car_block, car_header
from protocol.repo.commit import parse_commit, sign_commit
from protocol.syntax import Tid, tid_from_int


def sync_body(key: PrivateKey = KEY, rev: Tid = REV) -> Body:
    signed = sign_commit(DID, EMPTY_ROOT, rev, key)
    return {"seq": 9, "did": DID, "rev": rev, "blocks": car_of(signed, {})}


def test_good_sync_gives_its_event() -> None:
    event = verify_sync(sync_body(), KEY.public, NOW_US, host=4)
    assert (event.did, event.rev, event.data) == (DID, REV, EMPTY_ROOT)
    assert (event.seq, event.host) == (9, 4)
    assert parse_commit(event.commit).did == DID


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("did", None, DropReason.BAD_FIELD),
        ("did", "did:plc:" + "e" * 24, DropReason.COMMIT_MISMATCH),
        ("rev", None, DropReason.BAD_FIELD),
        ("rev", tid_from_int(1 << 10), DropReason.COMMIT_MISMATCH),
        ("rev", tid_from_int((NOW_US + 301_000_000) << 10), DropReason.FUTURE_REV),
        ("seq", 0, DropReason.BAD_SEQ),
        ("blocks", b"", DropReason.BAD_CAR),
        ("blocks", None, DropReason.BAD_FIELD),
        ("blocks", bytes(10_001), DropReason.BLOCKS_TOO_LARGE),
        (
            "blocks",
            car_header(EMPTY_ROOT) + car_block(EMPTY_ROOT, EMPTY_NODE),
            DropReason.BAD_COMMIT,
        ),
    ],
)
def test_wrong_sync_is_refused(field: str, value: Any, reason: DropReason) -> None:
    with pytest.raises(RejectedError) as caught:
        verify_sync({**sync_body(), field: value}, KEY.public, NOW_US)
    assert drop_reason(caught.value) == reason


def test_sync_with_a_wrong_signature_is_told_apart() -> None:
    with pytest.raises(InvalidSignatureError):
        verify_sync(sync_body(PrivateKey.generate()), KEY.public, NOW_US)
    blocks = sync_body()["blocks"]
    for bit in range(0, len(blocks) * 8, 5):
        flipped = bytearray(blocks)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolError):
            verify_sync({**sync_body(), "blocks": bytes(flipped)}, KEY.public, NOW_US)
