"""Records read from their stored blocks."""

from __future__ import annotations

import pytest

from appview.hydration.records import read_record
from protocol.data import cbor
from storage.records.addresses import Address

AT = Address(1, 1, 1)


def test_read_record_decodes_a_block() -> None:
    record = read_record(AT, cbor.encode({"text": "hi"}))
    assert record is not None
    assert record.value == {"text": "hi"}


@pytest.mark.parametrize(
    "block",
    [b"", b"\x80", b"\xa0\x00", b"\xa1\x61n\x18\x01", b"\xa1\x61n" + b"\x81" * 40],
    ids=["nothing", "list", "more behind", "long number", "deep"],
)
def test_read_record_refuses_unreadable_blocks(block: bytes) -> None:
    # A repo that is fetched whole is kept, even with such records.
    assert read_record(AT, block) is None
