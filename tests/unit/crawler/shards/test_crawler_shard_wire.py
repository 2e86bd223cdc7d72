"""Messages between the router and its shards, and the shard of an account."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routed_shards import did

from crawler.shards.shard_wire import (
    ControlReader,
    Kind,
    MessageReader,
    pack_header,
    shard_of,
)
from protocol.limits import MAX_FRAME_BYTES


def test_an_account_stays_where_it_is() -> None:
    """Were this to change, a running crawler would be dealt out anew unnoticed."""
    known = {"did:plc:ewvi7nxzyoun6zhxrhs64oiz": 4, "did:web:a.example.com": 5}
    assert {name: shard_of(name, 8) for name in known} == known
    share = [0] * 4
    for number in range(4_000):
        share[shard_of(did(number), 4)] += 1
    assert min(share) > 800


@given(
    st.lists(st.tuples(st.integers(1, 2**32 - 1), st.integers(0, 2**53), st.binary())),
    st.integers(1, 40),
)
def test_messages_come_out_as_they_went_in(
    messages: list[tuple[int, int, bytes]], step: int
) -> None:
    data = b"".join(
        pack_header(Kind.FRAME, stream, position, len(body)) + body
        for stream, position, body in messages
    )
    reader = MessageReader()
    out = []
    for start in range(0, len(data), step):
        out += reader.feed(data[start : start + step])
    assert out == [(Kind.FRAME, *message) for message in messages]


@given(st.binary(max_size=200), st.integers(1, 30))
def test_garbage_is_refused_or_waits_for_little(data: bytes, step: int) -> None:
    good = pack_header(Kind.FRAME, 1, 2, 3) + b"abc"
    reader = MessageReader()
    taken = 0
    try:
        for start in range(0, len(good + data), step):
            for kind, _, _, body in reader.feed((good + data)[start : start + step]):
                assert kind <= Kind.END
                assert len(body) <= len(data) + 3
                taken += 1
    except ValueError:
        pass
    assert taken >= 1


@pytest.mark.parametrize(
    "garbage",
    [
        pack_header(Kind.FRAME, 1, 2, MAX_FRAME_BYTES + 1),
        pack_header(9, 1, 2, 0),
        b"\xff" * 40,
    ],
)
def test_malformed_frame_header_is_refused(garbage: bytes) -> None:
    with pytest.raises(ValueError, match="a message of"):
        list(MessageReader().feed(garbage))


def test_malformed_control_message_is_refused() -> None:
    with pytest.raises(ValueError, match="a control message of"):
        list(ControlReader().feed(b"\xff" * 4))
