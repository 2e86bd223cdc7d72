"""Records from clients: checked, and encoded to the bytes that are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pds.blobs import BlobRef, blob_refs
from pds.exceptions import InvalidRequestError
from protocol.data.cbor import encode
from protocol.data.cid import cid_for
from protocol.data.json_form import record_from_json
from protocol.errors import InvalidRecordError, ProtocolError
from protocol.lexicon import Catalog
from protocol.limits import MAX_RECORD_BYTES

VALID: Final = "valid"
UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class RecordInput:
    """A checked record.

    `validation` is "valid", "unknown" (no such lexicon), or None if not requested.
    """

    value: bytes
    cid: bytes
    blobs: tuple[BlobRef, ...]
    validation: str | None


def read_record(
    catalog: Catalog, collection: str, rkey: str, record: Any, validate: bool | None
) -> RecordInput:
    """Check a record in its JSON form.

    `validate` True requires a known lexicon, None checks against a known one, False
    skips the check. Old blobs, `{cid, mimeType}`, are always refused. Raises
    InvalidRequestError.
    """
    try:
        value = record_from_json(record)
        declared = value.setdefault("$type", collection)
        if declared != collection:
            raise InvalidRequestError(
                f"Invalid $type: expected {collection}, got {str(declared)[:100]}"
            )
        validation = _validate(catalog, collection, rkey, value, validate)
        # After the lexicon check, whose errors name the field.
        blobs = tuple(blob_refs(value))
        raw = encode(value)
    except InvalidRecordError as error:
        raise InvalidRequestError(f"Invalid {collection} record: {error}") from error
    except ProtocolError as error:
        raise InvalidRequestError(f"Invalid record: {error}") from error
    if len(raw) > MAX_RECORD_BYTES:
        raise InvalidRequestError(
            f"Invalid record: {len(raw)} bytes, over {MAX_RECORD_BYTES}"
        )
    return RecordInput(raw, cid_for(raw), blobs, validation)


def _validate(
    catalog: Catalog,
    collection: str,
    rkey: str,
    value: dict[str, Any],
    validate: bool | None,
) -> str | None:
    if validate is False:
        return None
    if not catalog.has_record(collection):
        if validate:
            raise InvalidRequestError(f"Lexicon not found: {collection}")
        return UNKNOWN
    if not catalog.is_key_of(collection, rkey):
        raise InvalidRequestError(f"Invalid record key for {collection}: {rkey}")
    catalog.validate_record(collection, value)
    return VALID
