"""Labels as labelers sign them (specs/label)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from protocol.data.cbor import decode, encode
from protocol.data.cid import cid_from_text, cid_to_text
from protocol.data.json_form import to_json
from protocol.errors import InvalidEncodingError, InvalidSyntaxError
from protocol.identity.keys import PrivateKey, PublicKey
from protocol.syntax import datetime_us, is_did, parse_at_uri
from storage.postgres.instants import from_micros

LABEL_VERSION: Final = 1
MAX_VALUE_BYTES: Final = 128
_FIELDS: Final = ("ver", "src", "uri", "cid", "val", "neg", "cts", "exp")
"""Signed fields; a signature covers no others."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


class LabelFault(StrEnum):
    """The reason why a label or a frame is dropped. A closed set: metric labels."""

    BAD_FRAME = "bad_frame"
    MALFORMED = "malformed"
    OTHER_VERSION = "other_version"
    OTHER_SOURCE = "other_source"
    BAD_SUBJECT = "bad_subject"
    BAD_VALUE = "bad_value"
    BAD_CID = "bad_cid"
    BAD_TIME = "bad_time"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad_signature"


class LabelError(Exception):
    """A label that cannot be accepted."""

    def __init__(self, fault: LabelFault) -> None:
        super().__init__(fault.value)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Subject:
    """The account or record that a label is on; an account has no collection."""

    did: str
    collection: str | None = None
    rkey: str | None = None


@dataclass(frozen=True, slots=True)
class SignedLabel:
    """A label of the right form. `signature` is not verified yet.

    An empty `cid` stands for every version.
    """

    src: str
    subject: Subject
    val: str
    cid: bytes
    neg: bool
    cts: datetime
    exp: datetime | None
    fields: dict[str, Any]
    signature: bytes

    @property
    def raw(self) -> bytes:
        """Return the label as it is stored and sent: canonical CBOR."""
        return encode(self.fields | {"sig": self.signature})

    def is_signed_by(self, key: PublicKey) -> bool:
        """Return True if the key made the signature."""
        return key.verify(self.signature, encode(self.fields))


def read_label(value: object, src: str) -> SignedLabel:
    """Return a decoded label of the labeler `src`. Raises LabelError.

    Verifies the form and the source, not the signature.
    """
    if not isinstance(value, Mapping):
        raise LabelError(LabelFault.MALFORMED)
    fields = {name: value[name] for name in _FIELDS if value.get(name) is not None}
    if type(fields.get("ver")) is not int or fields["ver"] != LABEL_VERSION:
        raise LabelError(LabelFault.OTHER_VERSION)
    if fields.get("src") != src:
        raise LabelError(LabelFault.OTHER_SOURCE)
    neg = fields.get("neg", False)
    if type(neg) is not bool:
        raise LabelError(LabelFault.MALFORMED)
    signature = value.get("sig")
    if type(signature) is not bytes:
        raise LabelError(LabelFault.UNSIGNED)
    return SignedLabel(
        src,
        read_subject(fields.get("uri")),
        check_value(fields.get("val")),
        _read_cid(fields.get("cid")),
        neg,
        _read_time(fields.get("cts")),
        _read_time(fields["exp"]) if "exp" in fields else None,
        fields,
        signature,
    )


def read_subject(uri: object) -> Subject:
    """Return the account or record that a DID or AT-URI names. Raises LabelError."""
    if not isinstance(uri, str):
        raise LabelError(LabelFault.BAD_SUBJECT)
    if is_did(uri):
        return Subject(uri)
    try:
        found = parse_at_uri(uri)
    except InvalidSyntaxError:
        raise LabelError(LabelFault.BAD_SUBJECT) from None
    did = str(found.authority)
    if not is_did(did) or found.rkey is None:
        raise LabelError(LabelFault.BAD_SUBJECT)
    return Subject(did, str(found.collection), str(found.rkey))


def check_value(val: object) -> str:
    """Return a label's value. Raises LabelError."""
    if not isinstance(val, str) or not val or _CONTROL.search(val):
        raise LabelError(LabelFault.BAD_VALUE)
    if len(val.encode(errors="replace")) > MAX_VALUE_BYTES:
        raise LabelError(LabelFault.BAD_VALUE)
    return val


def sign_label(
    key: PrivateKey,
    *,
    src: str,
    uri: str,
    val: str,
    cts: datetime,
    cid: bytes = b"",
    neg: bool = False,
    exp: datetime | None = None,
) -> SignedLabel:
    """Return a new label. Raises LabelError for a wrong subject or value."""
    fields: dict[str, Any] = {
        "ver": LABEL_VERSION,
        "src": src,
        "uri": uri,
        "val": val,
        "cts": _time_text(cts),
    }
    if cid:
        fields["cid"] = cid_to_text(cid)
    if neg:
        fields["neg"] = True
    if exp is not None:
        fields["exp"] = _time_text(exp)
    return read_label(fields | {"sig": key.sign(encode(fields))}, src)


def label_fields(raw: bytes) -> dict[str, Any]:
    """Return the fields of a stored label, for frames."""
    value = decode(raw)
    assert isinstance(value, dict)
    return value


def label_json(raw: bytes) -> dict[str, Any]:
    """Return a stored label with its signature as JSON."""
    found: dict[str, Any] = to_json(label_fields(raw))
    return found


def _read_cid(text: object) -> bytes:
    if text is None:
        return b""
    try:
        return cid_from_text(text) if isinstance(text, str) else _refuse_cid()
    except InvalidEncodingError:
        return _refuse_cid()


def _refuse_cid() -> bytes:
    raise LabelError(LabelFault.BAD_CID) from None


def _read_time(text: object) -> datetime:
    try:
        if isinstance(text, str):
            return from_micros(datetime_us(text))
    except (InvalidSyntaxError, OverflowError):
        pass
    raise LabelError(LabelFault.BAD_TIME)


def _time_text(moment: datetime) -> str:
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"
