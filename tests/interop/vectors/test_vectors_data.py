"""The shared test vectors of the data model and of lexicons."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from protocol.data import cbor
from protocol.data.cid import cid_for, cid_to_text
from protocol.data.json_form import record_from_json, to_json
from protocol.errors import InvalidEncodingError, InvalidLexiconError, ProtocolError
from protocol.lexicon import Catalog
from protocol.lexicon.documents import check_document, read_document

RECORD = "example.lexicon.record"

pytestmark = pytest.mark.skipif(
    "ATPROTO_VECTORS" not in os.environ,
    reason="set ATPROTO_VECTORS to the folder of the interop test files",
)


def folder() -> Path:
    return Path(os.environ["ATPROTO_VECTORS"])


def read(name: str) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads((folder() / name).read_bytes())
    assert vectors
    return vectors


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load([folder() / "lexicon" / "catalog"])


def test_data_model_fixtures() -> None:
    for fixture in read("data-model/data-model-fixtures.json"):
        text = fixture["cbor_base64"]
        raw = base64.b64decode(text + "=" * (-len(text) % 4))
        value = record_from_json(fixture["json"])
        assert cbor.encode(value) == raw
        assert cbor.decode(raw) == value
        assert to_json(value) == fixture["json"]
        assert cid_to_text(cid_for(raw)) == fixture["cid"]


def test_data_model_valid() -> None:
    for case in read("data-model/data-model-valid.json"):
        raw = cbor.encode(record_from_json(case["json"]))
        assert to_json(cbor.decode(raw)) == case["json"], case["note"]


def test_data_model_invalid() -> None:
    for case in read("data-model/data-model-invalid.json"):
        with pytest.raises(InvalidEncodingError):
            record_from_json(case["json"])


def test_lexicons_valid() -> None:
    for case in read("lexicon/lexicon-valid.json"):
        assert check_document(case["lexicon"]).nsid == case["lexicon"]["id"]


def test_lexicons_invalid() -> None:
    for case in read("lexicon/lexicon-invalid.json"):
        with pytest.raises(InvalidLexiconError):
            check_document(case["lexicon"])


def test_lexicon_files() -> None:
    for file in sorted((folder() / "lexicon" / "catalog").glob("*.json")):
        assert "main" in read_document(file.read_bytes()).definitions


def test_record_data_valid(catalog: Catalog) -> None:
    for case in read("lexicon/record-data-valid.json"):
        value = record_from_json(case["data"])
        catalog.validate_record(RECORD, value)
        catalog.validate_record(RECORD, value, lenient=True)
        assert catalog.is_key_of(RECORD, case["rkey"]), case["name"]


# Left to those who serve the blob where a record was published by others.
LENIENT = {"blob too large", "blob wrong type"}


def test_record_data_invalid(catalog: Catalog) -> None:
    for case in read("lexicon/record-data-invalid.json"):
        for lenient in (False, True):
            if lenient and case["name"] in LENIENT:
                continue
            with pytest.raises(ProtocolError):
                catalog.validate_record(
                    RECORD, record_from_json(case["data"]), lenient=lenient
                )
        # Some vectors leave out what is required: what they are about is wrong too.
        repaired = {"integer": 1, **case["data"]}
        if case["name"] not in ("missing required field", "invalid integer field"):
            with pytest.raises(ProtocolError):
                catalog.validate_record(RECORD, record_from_json(repaired))
