"""Labels: short signed statements of a labeler about an account or a record
(specs/label).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from protocol.data.cbor import Value, encode
from protocol.errors import (
    InvalidRecordError,
    InvalidSignatureError,
    LimitExceededError,
)
from protocol.identity.keys import PrivateKey, PublicKey
from protocol.limits import MAX_LABEL_VALUE_BYTES
from protocol.syntax import (
    CidText,
    Datetime,
    Did,
    Uri,
    datetime_us,
    is_cid_text,
    is_datetime,
    is_did,
    is_uri,
)

LABEL_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Label:
    """One statement of `src` about `uri` (a DID or a URI), if given at one `cid` only.

    `neg` takes an earlier label back; None and False say the same but are signed
    differently. `cts` and `exp` stay the texts they were. `ver` and `sig` are None in
    labels that come inside views.
    """

    src: Did
    uri: Uri
    val: str
    cts: Datetime
    cid: CidText | None = None
    neg: bool | None = None
    exp: Datetime | None = None
    ver: int | None = None
    sig: bytes | None = None

    @property
    def subject(self) -> tuple[Did, Uri, str]:
        """What only the latest of several labels speaks for."""
        return self.src, self.uri, self.val

    def to_value(self) -> dict[str, Value]:
        """The fields that are set, as a value (`sig` is bytes)."""
        return self._signed_part() | ({} if self.sig is None else {"sig": self.sig})

    def _signed_part(self) -> dict[str, Value]:
        fields = {
            "ver": self.ver,
            "src": self.src,
            "uri": self.uri,
            "cid": self.cid,
            "val": self.val,
            "neg": self.neg,
            "cts": self.cts,
            "exp": self.exp,
        }
        return {name: value for name, value in fields.items() if value is not None}


def parse_label(value: object) -> Label:
    """The label of a decoded value, in which `sig` is bytes.

    Fields that the schema does not have, `$type` among them, are left out: they are
    not signed and mean nothing. Raises InvalidRecordError or LimitExceededError.
    """
    if not isinstance(value, Mapping):
        raise InvalidRecordError("", "label is not an object")
    src = _text(value, "src")
    if src is None or not is_did(src):
        raise InvalidRecordError("src", "not a DID")
    uri = _text(value, "uri")
    if uri is None or not is_uri(uri):
        raise InvalidRecordError("uri", "not a URI")
    val = _text(value, "val")
    if not val:
        raise InvalidRecordError("val", "missing or empty")
    try:
        size = len(val.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise InvalidRecordError("val", "not Unicode text") from error
    if size > MAX_LABEL_VALUE_BYTES:
        raise LimitExceededError(f"label value over {MAX_LABEL_VALUE_BYTES} bytes")
    cts = _datetime(value, "cts")
    if cts is None:
        raise InvalidRecordError("cts", "missing")
    cid = _text(value, "cid")
    if cid is not None and not is_cid_text(cid):
        raise InvalidRecordError("cid", "not a CID")
    neg, ver, sig = value.get("neg"), value.get("ver"), value.get("sig")
    if neg is not None and not isinstance(neg, bool):
        raise InvalidRecordError("neg", "not a boolean")
    if ver is not None and (type(ver) is not int or ver != LABEL_VERSION):
        raise InvalidRecordError("ver", f"not {LABEL_VERSION}")
    if sig is not None and not isinstance(sig, bytes):
        raise InvalidRecordError("sig", "not bytes")
    return Label(
        src=Did(src),
        uri=Uri(uri),
        val=val,
        cts=cts,
        cid=None if cid is None else CidText(cid),
        neg=neg,
        exp=_datetime(value, "exp"),
        ver=ver,
        sig=sig,
    )


def sign_label(label: Label, key: PrivateKey) -> Label:
    """A copy of the label in version 1, signed; `key` is the `#atproto_label` one."""
    draft = replace(label, ver=LABEL_VERSION, neg=label.neg or None, sig=None)
    return replace(draft, sig=key.sign(encode(draft._signed_part())))


def verify_label(label: Label, key: PublicKey) -> None:
    """Whether the labeler's `#atproto_label` key signed it.

    Verifies version and signature (low-S) over the schema's fields as they came. Does
    not verify that the label is in force: see `is_in_force` and `current_labels`.
    Raises InvalidSignatureError; a caller may resolve the key anew once.
    """
    if label.ver != LABEL_VERSION or label.sig is None:
        raise InvalidSignatureError("label is not signed")
    if key.verify(label.sig, encode(label._signed_part())):
        return
    # Some labelers sign without `neg` and send it as false.
    if label.neg is False:
        plain = replace(label, neg=None)
        if key.verify(label.sig, encode(plain._signed_part())):
            return
    raise InvalidSignatureError("label is not signed by the labeler's key")


def is_in_force(label: Label, now_us: int) -> bool:
    """Whether it states something now: not taken back, not expired."""
    expired = label.exp is not None and datetime_us(label.exp) <= now_us
    return not label.neg and not expired


def current_labels(labels: Iterable[Label], now_us: int) -> list[Label]:
    """Of many labels the ones that hold at `now_us` (microseconds since 1970).

    For one source, subject and value the latest `cts` speaks, also when what it says
    is that the label is gone; of two with one time the later in order.
    """
    latest: dict[tuple[Did, Uri, str], Label] = {}
    for label in labels:
        known = latest.get(label.subject)
        if known is None or datetime_us(label.cts) >= datetime_us(known.cts):
            latest[label.subject] = label
    return [label for label in latest.values() if is_in_force(label, now_us)]


def _text(value: Mapping[str, object], name: str) -> str | None:
    text = value.get(name)
    if text is not None and not isinstance(text, str):
        raise InvalidRecordError(name, "not a string")
    return text


def _datetime(value: Mapping[str, object], name: str) -> Datetime | None:
    text = _text(value, name)
    if text is not None and not is_datetime(text):
        raise InvalidRecordError(name, "not a datetime")
    return None if text is None else Datetime(text)
