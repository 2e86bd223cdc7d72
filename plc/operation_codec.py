"""The stored form of a proven did:plc log: one short value for each DID.

An operation is a row of fields without names. Keys, signatures and hashes are bytes if
their text is canonical; `prev` is the number of entries back. A log is compressed as a
whole, with a dictionary of common content. It is lossless: operations keep their
hashes.

Thread-safe: zstd contexts are kept for each thread.
"""

from __future__ import annotations

import threading
from base64 import b32decode, b32encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import zstandard

from plc.operation import LogEntry
from plc.operation_format import (
    AnyOperation,
    LegacyCreate,
    Operation,
    PlcService,
    Tombstone,
    operation_cid,
)
from protocol.data import cbor
from protocol.data.base64url import decode_base64url, encode_base64url
from protocol.errors import InvalidEncodingError, InvalidSyntaxError
from protocol.identity.keys import (
    DID_KEY_PREFIX,
    SIGNATURE_BYTES,
    decode_multibase,
    encode_base58,
)
from protocol.syntax import Did

_LEVEL: Final = 9
_PREFIX: Final = "did:plc:"
_OPERATION: Final = 0
_TOMBSTONE: Final = 1
_CREATE: Final = 2
_contexts = threading.local()


def pack_did(did: str) -> bytes:
    """Return the 15 bytes of a did:plc."""
    return b32decode(did.removeprefix(_PREFIX).upper())


def unpack_did(packed: bytes) -> Did:
    """Return the text of a packed did:plc."""
    return Did(_PREFIX + b32encode(packed).decode().lower())


def pack_log(entries: Sequence[LogEntry]) -> bytes:
    """Return the stored form of a log with its nullified entries.

    The first time is Unix milliseconds, the others are differences.
    """
    numbers: dict[str, int] = {}
    rows: list[Any] = []
    before = 0
    for number, entry in enumerate(entries):
        kind, fields = _pack_operation(entry.operation)
        prev = entry.operation.prev
        back = number - numbers[prev] if prev in numbers else prev
        numbers[entry.cid] = number
        head = kind * 2 + entry.nullified
        time = entry.created_ms - before
        before = entry.created_ms
        rows.append([head, time, back, _pack_signature(entry.operation.sig), *fields])
    return _compressor().compress(cbor.encode(rows))


def unpack_log(did: Did, packed: bytes) -> list[LogEntry]:
    """Return the log of its stored form."""
    rows: Any = cbor.decode(_decompressor().decompress(packed))
    entries: list[LogEntry] = []
    time = 0
    for head, added, back, sig, *fields in rows:
        time += added
        prev = entries[-back].cid if isinstance(back, int) else back
        operation = _unpack_operation(head // 2, fields, prev, _unpack_signature(sig))
        cid = operation_cid(operation)
        entries.append(LogEntry(did, operation, cid, bool(head % 2), time))
    return entries


def _pack_operation(operation: AnyOperation) -> tuple[int, list[Any]]:
    if isinstance(operation, Tombstone):
        return _TOMBSTONE, []
    if isinstance(operation, LegacyCreate):
        return _CREATE, [
            _pack_key(operation.signing_key),
            _pack_key(operation.recovery_key),
            operation.handle,
            operation.service,
        ]
    return _OPERATION, [
        [_pack_key(key) for key in operation.rotation_keys],
        _flat(operation.verification_methods, _pack_key),
        list(operation.also_known_as),
        [
            text
            for name, service in sorted(operation.services.items())
            for text in (name, service.type, service.endpoint)
        ],
    ]


def _unpack_operation(
    kind: int, fields: Sequence[Any], prev: Any, sig: str
) -> AnyOperation:
    if kind == _TOMBSTONE:
        return Tombstone(prev, sig)
    if kind == _CREATE:
        signing, recovery, handle, service = fields
        return LegacyCreate(
            _unpack_key(signing), _unpack_key(recovery), handle, service, sig
        )
    keys, methods, names, services = fields
    return Operation(
        rotation_keys=tuple(map(_unpack_key, keys)),
        verification_methods={
            methods[i]: _unpack_key(methods[i + 1]) for i in range(0, len(methods), 2)
        },
        also_known_as=tuple(names),
        services={
            services[i]: PlcService(services[i + 1], services[i + 2])
            for i in range(0, len(services), 3)
        },
        prev=prev,
        sig=sig,
    )


def _flat(texts: Mapping[str, str], pack: Any) -> list[Any]:
    return [part for name, key in sorted(texts.items()) for part in (name, pack(key))]


@lru_cache(maxsize=8_192)
def _pack_key(text: str) -> str | bytes:
    if text.startswith(DID_KEY_PREFIX):
        try:
            raw = decode_multibase(text.removeprefix(DID_KEY_PREFIX))
        except InvalidSyntaxError:
            return text
        if _spell_key(raw) == text:
            return raw
    return text


@lru_cache(maxsize=8_192)
def _spell_key(raw: bytes) -> str:
    return f"{DID_KEY_PREFIX}z{encode_base58(raw)}"


def _unpack_key(packed: str | bytes) -> str:
    return packed if isinstance(packed, str) else _spell_key(packed)


def _pack_signature(text: str) -> str | bytes:
    try:
        raw = decode_base64url(text)
    except InvalidEncodingError:
        return text
    return raw if len(raw) == SIGNATURE_BYTES else text


def _unpack_signature(packed: str | bytes) -> str:
    return packed if isinstance(packed, str) else encode_base64url(packed)


# Common content of the public directory's logs. It is part of the format: a log can
# only be read with the dictionary that it was written with.
_COMMON: Final = cbor.encode(
    [
        [2, 1_700_000_000_000, 1, bytes(64)],
        [b"\x80\x24", b"\xe7\x01"],
        ["https://bsky.social", "https://pds.", ".bsky.network", "at://"],
        _pack_key("did:key:zQ3shpKnbdPx3g3CmPf5cRVTPe1HtSwVn5ish3wSnDPQCbLJK"),
        _pack_key("did:key:zQ3shhCGUqDKjStzuDxPkTxN6ujddP4RkEKJJouJGRRkaLGbg"),
        ["atproto_labeler", "AtprotoLabeler", "https://"],
        _pack_key("did:key:zQ3shP5TBe1sQfSttXty15FAEHV1DZgcxRZNxvEWnPfLFwLxJ"),
        _pack_key("did:key:zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF"),
        [
            0,
            1_700_000_000_000,
            None,
            bytes(64),
            [
                _pack_key("did:key:zQ3shhCGUqDKjStzuDxPkTxN6ujddP4RkEKJJouJGRRkaLGbg"),
                _pack_key("did:key:zQ3shpKnbdPx3g3CmPf5cRVTPe1HtSwVn5ish3wSnDPQCbLJK"),
            ],
            ["atproto", b"\xe7\x01\x02"],
            ["at://.bsky.social"],
            [
                "atproto_pds",
                "AtprotoPersonalDataServer",
                "https://.us-east.host.bsky.network",
            ],
        ],
    ]
)


def _dictionary() -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(
        _COMMON, dict_type=zstandard.DICT_TYPE_RAWCONTENT
    )


def _compressor() -> zstandard.ZstdCompressor:
    compressor = getattr(_contexts, "compressor", None)
    if compressor is None:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            _LEVEL,
            format=zstandard.FORMAT_ZSTD1_MAGICLESS,
            write_dict_id=False,
            write_checksum=False,
            write_content_size=True,
        )
        compressor = _contexts.compressor = zstandard.ZstdCompressor(
            dict_data=_dictionary(), compression_params=parameters
        )
    return compressor


def _decompressor() -> zstandard.ZstdDecompressor:
    decompressor = getattr(_contexts, "decompressor", None)
    if decompressor is None:
        decompressor = _contexts.decompressor = zstandard.ZstdDecompressor(
            dict_data=_dictionary(), format=zstandard.FORMAT_ZSTD1_MAGICLESS
        )
    return decompressor
