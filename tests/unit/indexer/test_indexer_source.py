"""Fields of records, read for their rows."""

from __future__ import annotations

import pytest

from indexer.collections.source import blob_cid
from protocol.cid import cid_for, raw_cid_for


@pytest.mark.parametrize("ref", [raw_cid_for(b"x"), cid_for(b"x")])
def test_blob_is_named_by_its_cid(ref: bytes) -> None:
    assert blob_cid({"avatar": {"ref": ref}}, "avatar") == ref


@pytest.mark.parametrize("ref", [b"", bytes(36), bytes(900_000), "text", None])
def test_what_is_no_cid_names_no_blob(ref: object) -> None:
    assert blob_cid({"avatar": {"ref": ref}}, "avatar") is None  # type: ignore[dict-item]
