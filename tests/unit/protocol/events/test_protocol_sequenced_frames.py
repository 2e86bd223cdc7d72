from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.data.cid import cid_for
from protocol.errors import InvalidEncodingError
from protocol.events.frames import decode_frame, encode_frame
from protocol.events.sequenced_frames import (
    account_frame,
    identity_frame,
    renumber,
    sync_frame,
)
from protocol.limits import MAX_SEQ
from protocol.repo.car import read_car

TIME = "2026-03-01T12:00:00.000Z"
SEQS = st.integers(1, MAX_SEQ) | st.sampled_from([23, 24, 255, 256, 65_536, 2**32])
VALUES = st.none() | st.text(max_size=30) | st.binary(max_size=300) | st.integers(0, 9)
FIELDS = st.dictionaries(
    st.text(min_size=1, max_size=40).filter(lambda key: key != "seq"),
    VALUES | st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=3)),
    max_size=40,
)


@given(FIELDS, SEQS, SEQS)
def test_renumber_changes_only_the_number(
    fields: dict[str, Any], old: int, new: int
) -> None:
    raw = encode_frame("#commit", {**fields, "seq": old})
    assert renumber(raw, new) == encode_frame("#commit", {**fields, "seq": new})


def test_renumber_ignores_other_occurrences_of_the_key() -> None:
    for name in ("cseq", "seqcseq", "\x63seq\x01"):
        fields: dict[str, Any] = {"ops": [{"path": name}, name], "a": name, name: 5}
        raw = encode_frame("#commit", {**fields, "seq": 7})
        expected = encode_frame("#commit", {**fields, "seq": 700})
        assert renumber(raw, 700) == expected


@pytest.mark.parametrize("raw", [encode_frame("#info", {"name": "seq"}), b"\xa0\x80"])
def test_renumber_refuses_frames_without_a_number(raw: bytes) -> None:
    with pytest.raises(InvalidEncodingError):
        renumber(raw, 1)


def test_own_frames() -> None:
    commit = b"\xa1\x61a\x01"
    sync = decode_frame(renumber(sync_frame("did:a:b", "rev", commit, TIME), 5))
    assert sync.t == "#sync"
    car = read_car(sync.body.pop("blocks"))
    assert sync.body == {"seq": 5, "did": "did:a:b", "rev": "rev", "time": TIME}
    assert car.root == cid_for(commit)
    assert car.blocks == {car.root: commit}
    account = decode_frame(account_frame("did:a:b", False, "deleted", TIME))
    assert (account.t, account.body["active"]) == ("#account", False)
    assert account.body["status"] == "deleted"
    assert "status" not in decode_frame(account_frame("did:a:b", True, None, TIME)).body
    identity = decode_frame(identity_frame("did:a:b", None, TIME))
    assert identity.t == "#identity"
    assert "handle" not in identity.body
