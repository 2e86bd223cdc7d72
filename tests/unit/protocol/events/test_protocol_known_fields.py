"""Of what strangers wrote only that is sent on which the lexicon knows."""

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
def test_what_has_known_fields_only_is_plain(t: str) -> None:
    assert plain(encode_frame(t, KNOWN[t]))


@pytest.mark.parametrize("t", KNOWN)
@pytest.mark.parametrize(
    "fields",
    [{"more": "x" * 4_900_000}, {"time": "x" * 65}, {"time": None}],
    ids=["a field", "a long time", "no time"],
)
def test_what_nobody_knows_is_not_plain(t: str, fields: dict[str, Any]) -> None:
    assert not plain(encode_frame(t, KNOWN[t] | fields))


@pytest.mark.parametrize("t", KNOWN)
def test_a_field_of_another_message_is_not_plain(t: str) -> None:
    for other in KNOWN.values():
        for name in other.keys() - KNOWN[t].keys() - {"handle", "status"}:
            assert not plain(encode_frame(t, KNOWN[t] | {name: other[name]}))


@pytest.mark.parametrize("t", KNOWN)
def test_a_header_with_more_in_it_is_not_plain(t: str) -> None:
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
def test_known_fields_with_anything_in_them_are_not_plain(
    t: str, fields: dict[str, Any]
) -> None:
    assert not plain(encode_frame(t, KNOWN[t] | fields))


VALUES = st.none() | st.text(max_size=9) | st.lists(st.integers(0, 9), max_size=3)
MORE = st.dictionaries(st.text(max_size=9), VALUES, max_size=4)


@given(MORE, MORE, st.sets(st.sampled_from(["blobs", "rebase", "tooBig"])))
def test_of_a_commit_what_is_known_is_left(
    more: dict[str, Any], in_op: dict[str, Any], without: set[str]
) -> None:
    known = {name: value for name, value in COMMIT.items() if name not in without}
    raw = encode_frame("#commit", {**more, **known, "ops": [in_op | OP, OP]})
    if in_op.keys() & {"prev"}:
        # Without a link in it no such operation is proven.
        return
    told = plain_commit(raw, NOW)
    assert told == encode_frame("#commit", {"blobs": [], **known, "ops": [OP, OP]})
    assert plain(told)
    assert plain_commit(told, NOW) == told


@pytest.mark.parametrize("time", ["x" * 65, None, 5])
def test_unread_fields_of_the_wrong_types_are_empty_in_what_is_sent_on(
    time: Any,
) -> None:
    wrong = {"blobs": [b"x"] * 1_000, "rebase": 1, "tooBig": True, "time": time}
    told = plain_commit(encode_frame("#commit", COMMIT | wrong), NOW)
    empty = {"blobs": [], "rebase": False, "tooBig": False, "time": NOW}
    assert told == encode_frame("#commit", COMMIT | empty)


def test_a_link_that_is_none_cannot_be_written() -> None:
    raw = encode_frame("#commit", COMMIT | {"ops": [OP | {"cid": b"x", "more": 1}]})
    assert plain_commit(raw, NOW) is None


@pytest.mark.parametrize("curve", CURVES)
def test_all_frames_of_a_reference_server_are_plain(
    reference: Path, curve: str
) -> None:
    frames = read_recorded(reference, curve).frames
    assert frames
    assert all(plain(raw) for raw in frames)
