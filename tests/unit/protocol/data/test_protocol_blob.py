"""References to blobs, in both forms."""

from __future__ import annotations

import pytest

from protocol.data.blob import blob_cid
from protocol.data.cid import Cid, cid_for, cid_to_text, raw_cid_for

PICTURE = raw_cid_for(b"picture")


@pytest.mark.parametrize("cid", [PICTURE, cid_for(b"x")])
def test_blob_cid_is_its_link(cid: bytes) -> None:
    assert blob_cid({"$type": "blob", "ref": cid}) == cid
    assert blob_cid({"$type": "blob", "ref": Cid(cid)}) == cid


def test_blob_cid_of_a_legacy_blob_is_its_text() -> None:
    text = cid_to_text(PICTURE)
    assert blob_cid({"cid": text, "mimeType": "image/jpeg"}) == PICTURE
    assert blob_cid({"$type": "blob", "cid": text, "mimeType": "x"}) is None


@pytest.mark.parametrize(
    "blob",
    [
        None,
        "bafy",
        [],
        {},
        *({"ref": ref} for ref in (b"", bytes(36), bytes(900_000), "text", None)),
        *(
            {"cid": cid, "mimeType": "image/jpeg"}
            for cid in (
                "../../evil?x=1&y",
                "",
                7,
                cid_to_text(PICTURE).upper(),
                cid_to_text(PICTURE) + "\n",
                cid_to_text(PICTURE)[:-1],
                "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG",
            )
        ),
    ],
)
def test_blob_cid_is_none_for_anything_else(blob: object) -> None:
    assert blob_cid(blob) is None
