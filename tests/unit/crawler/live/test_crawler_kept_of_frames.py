"""The fields of a frame that the gate keeps."""

from __future__ import annotations

import gc
from types import FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.hosts.host_name import HostName
from crawler.live.gate_frame import GateFrame, read_frame
from crawler.live.gate_result import GateResult
from crawler.live.stream_state import StreamState
from crawler.live.verify import verify_commit, verify_sync
from protocol.errors import ProtocolError
from protocol.events.frames import decode_frame, encode_frame
from protocol.identity.keys import PrivateKey

DID = "did:plc:" + "a" * 24
KEY = PrivateKey("k256", b"\x05" * 32)
NOW_US = 1_800_000_000_000_000
LISTS: list[Any] = [[n] for n in range(4_000)]
FIELDS: dict[str, Any] = {"repo": DID, "did": DID, "time": "x", "ops": []}


def frame(t: str, **fields: Any) -> bytes:
    return encode_frame(t, {"seq": 5, **FIELDS, **fields})


def read(raw: bytes) -> GateFrame:
    stream = StreamState(1, HostName("pds.example.com"), relay=False, trusted=False)
    found = read_frame(stream, raw, GateResult(), bad_seqs_allowed=1)
    assert found is not None
    return found


@pytest.mark.parametrize("t", ["#commit", "#sync", "#identity", "#account"])
@pytest.mark.parametrize(
    "fields",
    [
        {"more": LISTS},
        {"ops": LISTS},
        {"ops": [{"path": LISTS}, {"more": LISTS}]},
        {"ops": [LISTS, {"action": {"x": LISTS}}]},
        {"since": LISTS, "blobs": LISTS},
        {"handle": {"x": LISTS}, "status": LISTS},
    ],
    ids=["unknown", "operations", "in one", "for one", "wrong type", "in a map"],
)
def test_frame_keeps_only_the_fields_that_are_read(
    t: str, fields: dict[str, Any]
) -> None:
    raw = frame(t, **fields)
    stream = StreamState(1, HostName("pds.example.com"), relay=False, trusted=False)
    result = GateResult()
    kept = read_frame(stream, raw, result, bad_seqs_allowed=1)
    assert kept is not None
    assert kept.raw == raw
    assert count_objects(kept, stream, result, most=1_000) < 1_000
    # The same count sees what a whole frame would keep.
    assert count_objects(decode_frame(raw), most=1_000) == 1_000


def count_objects(*roots: Any, most: int) -> int:
    """Return the number of objects that roots keep, at most `most`."""
    seen = {id(root): root for root in roots}
    stack = [*roots]
    while stack and len(seen) < most:
        for item in gc.get_referents(stack.pop()):
            is_code = isinstance(item, type | ModuleType | FunctionType)
            if not is_code and id(item) not in seen:
                seen[id(item)] = item
                stack.append(item)
    return min(len(seen), most)


odd = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["path", "x"]), inner, max_size=2)
    ),
    max_leaves=5,
)
names = ["rev", "since", "prevData", "blocks", "commit", "more"]
op = st.dictionaries(st.sampled_from(["path", "action", "cid", "prev", "x"]), odd)


@given(st.dictionaries(st.sampled_from(names), odd), odd | st.lists(op | odd))
def test_stripped_frame_fails_in_the_same_way(fields: Any, ops: Any) -> None:
    fields = {"rev": "3jzfcijpj2z2a"} | fields
    for t, verify in (("#commit", verify_commit), ("#sync", verify_sync)):
        raw = frame(t, **fields | {"ops": ops})
        verdicts = []
        for body in (decode_frame(raw).body, read(raw).body):
            with pytest.raises(ProtocolError) as caught:
                verify(body, KEY.public, NOW_US)
            verdicts.append((type(caught.value), str(caught.value)))
        assert verdicts[0] == verdicts[1]
