"""Edges read by column, compared with edges read one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.data import cbor
from protocol.data.cid import DATA_PREFIX, cid_to_text
from protocol.syntax import datetime_us, tid_from_int
from storage.records.edge_batch import SHAPE_OF, read_edges, tid_numbers
from storage.records.interning import rkey_number
from storage.records.record_codec import decompress
from storage.records.record_shapes import SHAPES, Shape, read_edge

LETTERS = "abcdefghijklmnopqrstuvwxyz234567"

dids = st.integers(0, 32**24 - 1).map(
    lambda n: "".join(LETTERS[n >> 5 * at & 31] for at in range(24))
)
numbers = st.integers(1, 2**63 - 1)
cids = st.binary(min_size=32, max_size=32).map(lambda b: cid_to_text(DATA_PREFIX + b))
times = st.datetimes().map(
    lambda t: t.isoformat(timespec="milliseconds").ljust(23, "0") + "Z"
)


@st.composite
def edges(draw: st.DrawFn, shape: Shape) -> bytes:
    subject: object = f"did:plc:{draw(dids)}"
    if shape.of_record:
        tid = tid_from_int(draw(numbers))
        uri = f"at://{subject}/app.bsky.feed.post/{tid}"
        subject = {"cid": draw(cids), "uri": uri}
    value = {"$type": shape.nsid, "subject": subject, "createdAt": draw(times)}
    return cbor.encode(value)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.nsid)
@settings(max_examples=30)
@given(data=st.data())
def test_columns_are_the_single_edges(shape: Shape, data: st.DataObject) -> None:
    values = data.draw(st.lists(edges(shape), min_size=1, max_size=8))
    single = [read_edge(value) for value in values]
    found = read_edges(shape, values)
    if found is None:
        # Years before 1970 are no shape.
        assert None in single
        return
    assert [edge.stored for edge in single if edge] == found.stored
    assert [edge.did for edge in single if edge] == found.dids
    created = [cbor.decode(value)["createdAt"] for value in values]  # type: ignore[index]
    assert [datetime_us(time) for time in created] == [1000 * t for t in found.created]
    if shape.of_record:
        assert [rkey_number(e.rkey) for e in single if e and e.rkey] == found.rkeys
    assert [decompress(stored) for stored in found.stored] == values


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.nsid)
@settings(max_examples=60)
@given(data=st.data())
def test_changed_byte_is_read_as_alone(shape: Shape, data: st.DataObject) -> None:
    good = data.draw(edges(shape).filter(lambda value: read_edge(value) is not None))
    place = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.integers(0, 255))
    bad = good[:place] + bytes([byte]) + good[place + 1 :]
    found = read_edges(shape, [good, bad, good])
    alone = read_edge(bad)
    if alone is None or alone.nsid != shape.nsid:
        assert found is None
    elif found is not None:
        assert found.stored[1] == alone.stored


def test_lengths_that_only_add_up_are_refused() -> None:
    shape = SHAPE_OF["app.bsky.graph.follow"]
    value = cbor.encode(
        {
            "$type": shape.nsid,
            "subject": "did:plc:" + "a" * 24,
            "createdAt": "2026-01-01T00:00:00.000Z",
        }
    )
    assert len(value) == shape.size
    assert read_edges(shape, [value, value]) is not None
    joined = value + value
    assert read_edges(shape, [joined[:50], joined[50:]]) is None
    assert read_edges(shape, [joined, b""]) is None


@given(st.lists(numbers, min_size=1, max_size=20))
def test_numbers_of_tids(wanted: list[int]) -> None:
    assert tid_numbers([tid_from_int(number) for number in wanted]) == wanted


@pytest.mark.parametrize(
    "keys",
    [
        ["self"],
        ["2222222222222"],  # zero stands for no record key
        ["c222222222222"],  # the first above 63 bits
        ["3jqfcqzm3fn2", "3jqfcqzm3fn2j2"],
        ["3jqfcqzm3fn2j/3jqfcqzm3fn2j"],
        ["3jqfcqzm3fn2j/3jqfcqzm3fn2j", ""],
        ["3jqfcqzm3fn2j", "3jqfcqzm3fn2J"],
        ["3jqfcqzm3fn2\uff12"],
    ],
)
def test_keys_that_are_no_numbers(keys: list[str]) -> None:
    assert tid_numbers(keys) is None
