"""Labels that authors put on their own records."""

from __future__ import annotations

from typing import Final

from protocol.data.cbor import Value

SELF_LABELS: Final = "com.atproto.label.defs#selfLabels"
MAX_SELF_LABELS: Final = 10
MAX_LABEL_BYTES: Final = 128


def self_label_values(record: dict[str, Value]) -> list[str]:
    """Return the label values of a record."""
    own = record.get("labels")
    if not isinstance(own, dict) or own.get("$type") != SELF_LABELS:
        return []
    values = own.get("values")
    return [
        val
        for each in (values if isinstance(values, list) else [])[:MAX_SELF_LABELS]
        if isinstance(each, dict)
        and isinstance(val := each.get("val"), str)
        and len(val.encode()) <= MAX_LABEL_BYTES
    ]
