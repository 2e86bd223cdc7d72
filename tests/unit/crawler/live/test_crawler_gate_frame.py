"""Frames that are proven together, and how many bytes of them there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from crawler.hosts.host_name import HostName
from crawler.live import rejections, verify
from crawler.live.gate_frame import COMMIT, GateFrame, prove_frames
from crawler.live.stream_state import StreamState
from protocol.events.drops import DropReason
from protocol.events.event import CommitEvent
from protocol.identity.keys import PrivateKey, PublicKey
from protocol.syntax import Did

KEY = PrivateKey("k256", b"\x05" * 32).public
MIB = 1024 * 1024


def frames(sizes: list[int]) -> list[tuple[GateFrame, PublicKey]]:
    stream = StreamState(1, HostName("pds.test"))
    return [
        (GateFrame(stream, COMMIT, Did("did:plc:x"), seq, {}, bytes(size)), KEY)
        for seq, size in enumerate(sizes, 1)
    ]


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([], []),
        ([MIB - 1], [1]),
        ([1_000] * 500, [500]),
        ([300 * 1024] * 10, [4, 4, 2]),
        ([5 * MIB, 1, MIB - 1, 1], [1, 2, 1]),
    ],
)
def test_a_group_ends_with_the_frame_that_fills_a_mebibyte(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], groups: list[int]
) -> None:
    proven: list[int] = []
    honest = verify.verify_commits

    def watched(
        messages: Sequence[tuple[Mapping[str, Any], PublicKey, int]], now_us: int
    ) -> list[CommitEvent | Exception]:
        proven.append(len(messages))
        return honest(messages, now_us)

    monkeypatch.setattr(verify, "verify_commits", watched)
    ready = frames(sizes)
    prove_frames(ready, 0)
    assert proven == groups
    for frame, key in ready:
        assert frame.proven_by is key
        assert isinstance(frame.proof, rejections.RejectedError)
        assert frame.proof.reason == DropReason.BAD_FIELD
