"""Messages reduced to the fields that the lexicon defines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.recorded import CURVES, read_recorded
from protocol.data.cid import Cid, cid_for
from protocol.events.frames import decode_frame, encode_frame
from protocol.events.known_fields import MAX_BLOBS, is_plain, plain_commit

DID = "did:plc:" + "a" * 24
LINK = Cid(cid_for(b""))
NOW = "2026-03-01T12:00:00.000Z"
OP: dict[str, Any] = {"action": "create", "path": "a.b.c/d", "cid": LINK}
COMMIT: dict[str, Any] = {
    "seq": 5,
    "rebase": False,
    "tooBig": False,
    "repo": DID,
    "commit": LINK,
    "rev": "3" + "2" * 12,
    "since": None,
    "blocks": b"car",
    "ops": [OP, OP | {"action": "update", "prev": LINK}],
    "blobs": [LINK],
    "prevData": LINK,
    "time": "2026-01-01T00:00:00Z",
}
SYNC = {k: COMMIT[k] for k in ("seq", "rev", "blocks", "time")} | {"did": DID}
IDENTITY = {"seq": 5, "did": DID, "time": "2026-01-01T00:00:00Z", "handle": "a.b"}
ACCOUNT = IDENTITY | {"active": False, "status": "deactivated"}
del ACCOUNT["handle"]
KNOWN = {"#commit": COMMIT, "#sync": SYNC, "#identity": IDENTITY, "#account": ACCOUNT}


def plain(raw: bytes) -> bool:
    t, body = decode_frame(raw)[1:]
    assert t is not None
    return is_plain(raw, t, body)


@pytest.mark.parametrize("t", KNOWN)
def test_message_with_known_fields_is_plain(t: str) -> None:
    assert plain(encode_frame(t, KNOWN[t]))


@pytest.mark.parametrize("t", KNOWN)
@pytest.mark.parametrize(
    "fields",
    [{"more": "x" * 4_900_000}, {"time": "x" * 65}, {"time": None}],
    ids=["a field", "a long time", "no time"],
)
def test_message_with_unknown_fields_is_not_plain(
    t: str, fields: dict[str, Any]
) -> None:
    assert not plain(encode_frame(t, KNOWN[t] | fields))


@pytest.mark.parametrize("t", KNOWN)
def test_message_with_fields_of_another_type_is_not_plain(t: str) -> None:
    for other in KNOWN.values():
        for name in other.keys() - KNOWN[t].keys() - {"handle", "status"}:
            assert not plain(encode_frame(t, KNOWN[t] | {name: other[name]}))


@pytest.mark.parametrize("t", KNOWN)
def test_message_with_a_longer_header_is_not_plain(t: str) -> None:
    header = encode_frame(t, {})[:-1]
    more = b"\xa3" + header[1:].replace(b"\x62op", b"\x61x\x00\x62op")
    raw = more + encode_frame(t, KNOWN[t])[len(header) :]
    assert decode_frame(raw).t == t
    assert not plain(raw)


@pytest.mark.parametrize(
    ("t", "fields"),
    [
        ("#identity", {"handle": "x" * 254}),
        ("#account", {"status": "x" * 129}),
        ("#account", {"status": ["x"]}),
        ("#commit", {"blobs": [LINK] * (MAX_BLOBS + 1)}),
        ("#commit", {"blobs": [b"x" * 101]}),
        ("#commit", {"blobs": "x" * 1_000}),
        ("#commit", {"rebase": "x" * 1_000}),
        ("#commit", {"tooBig": None}),
        ("#commit", {"ops": [OP, OP | {"more": 1}]}),
    ],
)
def test_message_with_oversized_fields_is_not_plain(
    t: str, fields: dict[str, Any]
) -> None:
    assert not plain(encode_frame(t, KNOWN[t] | fields))


VALUES = st.none() | st.text(max_size=9) | st.lists(st.integers(0, 9), max_size=3)
MORE = st.dictionaries(st.text(max_size=9), VALUES, max_size=4)


@given(MORE, MORE, st.sets(st.sampled_from(["blobs", "rebase", "tooBig"])))
def test_plain_commit_keeps_known_fields(
    more: dict[str, Any], in_op: dict[str, Any], without: set[str]
) -> None:
    known = {name: value for name, value in COMMIT.items() if name not in without}
    raw = encode_frame("#commit", {**more, **known, "ops": [in_op | OP, OP]})
    if "prev" in in_op:
        return  # a `prev` that is not a link is never proven
    reduced = plain_commit(raw, NOW)
    assert reduced == encode_frame("#commit", {"blobs": [], **known, "ops": [OP, OP]})
    assert plain(reduced)
    assert plain_commit(reduced, NOW) == reduced


@pytest.mark.parametrize("time", ["x" * 65, None, 5])
def test_plain_commit_empties_invalid_deprecated_fields(
    time: Any,
) -> None:
    wrong = {"blobs": [b"x"] * 1_000, "rebase": 1, "tooBig": True, "time": time}
    reduced = plain_commit(encode_frame("#commit", COMMIT | wrong), NOW)
    empty = {"blobs": [], "rebase": False, "tooBig": False, "time": NOW}
    assert reduced == encode_frame("#commit", COMMIT | empty)


def test_plain_commit_refuses_invalid_links() -> None:
    raw = encode_frame("#commit", COMMIT | {"ops": [OP | {"cid": b"x", "more": 1}]})
    assert plain_commit(raw, NOW) is None


@pytest.mark.parametrize("curve", CURVES)
def test_frames_of_a_reference_server_are_plain(reference: Path, curve: str) -> None:
    frames = read_recorded(reference, curve).frames
    assert frames
    assert all(plain(raw) for raw in frames)
