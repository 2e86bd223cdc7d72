"""Frames of event streams."""

from __future__ import annotations

import time
from typing import Any

import pytest

from protocol.data import cbor
from protocol.data.cid import Cid, cid_for
from protocol.errors import InvalidEncodingError, LimitExceededError, ProtocolError
from protocol.events.frames import (
    Frame,
    decode_frame,
    encode_error_frame,
    encode_frame,
    peek_frame,
)

MESSAGE = cbor.encode({"op": 1, "t": "#commit"})
BODY = {"seq": 7, "repo": "did:web:a.example", "ops": [{"cid": None}]}


def test_message_frame_round_trip() -> None:
    link = cid_for(b"x")
    raw = encode_frame("#commit", {"commit": Cid(link), "blocks": b"\x01", **BODY})
    body = {"commit": link, "blocks": b"\x01", **BODY}
    assert decode_frame(raw) == Frame(1, "#commit", body)


def test_error_frame_round_trip() -> None:
    body = {"error": "FutureCursor", "message": "too far"}
    raw = encode_error_frame("FutureCursor", "too far")
    assert decode_frame(raw) == Frame(-1, None, body)
    raw = encode_error_frame("ConsumerTooSlow")
    assert decode_frame(raw).body == {"error": "ConsumerTooSlow"}


@pytest.mark.parametrize(
    ("header", "body", "expected"),
    [
        ({"op": 1, "t": "#new"}, {"a": 1}, Frame(1, "#new", {"a": 1})),
        ({"op": 1, "t": "#new", "x": 1}, {}, Frame(1, "#new", {})),
        ({"op": 2}, [1], Frame(2, None, [1])),
        ({"op": 2, "t": 5}, {}, Frame(2, None, {})),
        ({"op": 0, "t": "#x"}, None, Frame(0, "#x", None)),
        ({"op": -2}, "text", Frame(-2, None, "text")),
    ],
)
def test_unknown_frames_are_decoded(
    header: dict[str, object], body: object, expected: Frame
) -> None:
    assert decode_frame(cbor.encode(header) + cbor.encode(body)) == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        MESSAGE,
        MESSAGE + b"\xa0\xa0",
        MESSAGE + b"\xa0\x00",
        MESSAGE + b"\xa0\xff",
        MESSAGE + cbor.encode(BODY)[:-1],
        b"\x00",
        b"\x00\xa0",
        b"\x80\xa0",
        b"\xa0\xa0",
        cbor.encode({"t": "#commit"}) + b"\xa0",
        cbor.encode({"op": 1}) + b"\xa0",
        cbor.encode({"op": 1, "t": 2}) + b"\xa0",
        cbor.encode({"op": True, "t": "#commit"}) + b"\xa0",
        cbor.encode({"op": "1", "t": "#commit"}) + b"\xa0",
        cbor.encode({"op": None, "t": "#commit"}) + b"\xa0",
        MESSAGE + b"\x80",
        MESSAGE + b"\xf6",
        cbor.encode({"op": -1}) + b"\x80",
        cbor.encode({"op": -1}) + b"\xa0",
        cbor.encode({"op": -1}) + cbor.encode({"error": 4}),
        b'{"op":1,"t":"#commit"}{}',
        b"\xbfbop\x01at\x61aff",
        MESSAGE + b"\xa1\x61\xff\x00",
        MESSAGE + b"\xa2\x61a\x00\x61a\x00",
        MESSAGE + b"\xa1\x00\x00",
        "text",
    ],
)
def test_decode_frame_refuses_other_values(raw: Any) -> None:
    with pytest.raises(InvalidEncodingError):
        decode_frame(raw)


@pytest.mark.parametrize("size", [200, 40_000])
def test_truncated_or_extended_frame_is_refused(size: int) -> None:
    raw = encode_frame("#commit", {**BODY, "blocks": b"b" * size})
    cuts = {*range(60), *range(len(raw) - 60, len(raw)), len(raw) // 2}
    for cut in cuts:
        with pytest.raises(InvalidEncodingError):
            decode_frame(raw[:cut])
    for more in (b"\x00", b"\xa0", raw):
        with pytest.raises(InvalidEncodingError):
            decode_frame(raw + more)


def test_frame_size_is_limited() -> None:
    empty = encode_frame("#commit", {"blocks": b"b" * 70_000})
    room = 5_000_000 - len(empty) + 70_000
    raw = encode_frame("#commit", {"blocks": b"b" * room})
    assert len(raw) == 5_000_000
    assert len(decode_frame(raw).body["blocks"]) == room
    with pytest.raises(LimitExceededError):
        encode_frame("#commit", {"blocks": b"b" * (room + 1)})
    with pytest.raises(LimitExceededError):
        decode_frame(raw + b"\x00")
    with pytest.raises(LimitExceededError):
        peek_frame(raw + b"\x00")


@pytest.mark.parametrize("op", [1, 2])
@pytest.mark.parametrize("filler", [b"", b"b" * 40_000])
def test_frame_depth_is_limited(op: int, filler: bytes) -> None:
    header = cbor.encode({"op": op, "t": "#x"})
    start = b"\xa2\x61a" + cbor.encode(filler) + b"\x61b"
    assert decode_frame(header + start + b"\x81" * 63 + b"\x00").body["a"] == filler
    for levels in (64, 900, 3_000):
        for head in (b"\x81", b"\xa1\x61a"):
            with pytest.raises(LimitExceededError):
                decode_frame(header + start + head * levels + b"\x00")
    if op == 2:
        assert decode_frame(header + b"\x81" * 64 + b"\x00").op == 2
        with pytest.raises(LimitExceededError):
            decode_frame(header + b"\x81" * 65 + b"\x00")


def test_bombs_are_refused_fast() -> None:
    for bomb in (
        b"\x81" * 4_999_000,
        b"\xa1\x61a" * 1_666_000,
        b"\xa1\x61a\x9a\x00\x4c\x00\x00" + b"\xa0" * 0x4C0000,
        # After the payload, millions of maps.
        b"\xa0" * 4_900_000,
    ):
        started = time.process_time()
        with pytest.raises(ProtocolError):
            decode_frame(MESSAGE + bomb)
        assert time.process_time() - started < 0.05


def test_frame_may_hold_floats() -> None:
    raw = MESSAGE + b"\xa1\x61a\xfb\x3f\xf8" + bytes(6)
    assert decode_frame(raw).body == {"a": 1.5}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (BODY, ("did:web:a.example", 7)),
        ({"did": "did:web:b.example", "seq": 8}, ("did:web:b.example", 8)),
        ({"repo": 5, "did": "did:web:b.example", "seq": True}, (None, None)),
        ({"seq": "8"}, (None, None)),
        ([], (None, None)),
    ],
)
def test_peek_frame(body: object, expected: tuple[str | None, int | None]) -> None:
    assert peek_frame(MESSAGE + cbor.encode(body)) == expected


@pytest.mark.parametrize(
    "header",
    [
        {"op": 1, "t": "#info"},
        {"op": -1, "t": "#commit"},
        {"op": 2, "t": "#commit"},
        {"op": 1},
        {"t": "#commit"},
        {"op": "1", "t": "#commit"},
        [],
    ],
)
def test_peek_returns_nothing_for_frames_without_a_position(header: Any) -> None:
    """Such a frame must not move the cursor, or the true frame would be refused."""
    raw = cbor.encode(header) + cbor.encode(BODY | {"error": "x"})
    assert peek_frame(raw) == (None, None)


def test_peek_ignores_field_names_inside_text() -> None:
    trap = "drepoxdid:web:evil.example" + "cseq\x01"
    raw = encode_frame("#commit", {"ops": [{"path": trap}], **BODY | {"ops": [trap]}})
    assert peek_frame(raw) == ("did:web:a.example", 7)


def test_peek_refuses_malformed_frames() -> None:
    with pytest.raises(InvalidEncodingError):
        peek_frame(MESSAGE)
    with pytest.raises(InvalidEncodingError):
        peek_frame(MESSAGE + b"\xa0\xa0")
