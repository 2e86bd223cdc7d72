"""Stored forms of records: exact round trips in few bytes."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bench.dictionary.record_samples import make_samples
from bench.dictionary.train import (
    MAX_DICTIONARY_BYTES,
    train_dictionary,
    write_dictionary,
)
from protocol.data import cbor
from protocol.data.cid import cid_for, cid_from_text, cid_to_text, is_data_cid
from protocol.errors import InvalidEncodingError
from storage.postgres.pool import Conn
from storage.postgres.text import clean_optional, clean_text
from storage.records import record_codec
from storage.records.record_codec import (
    DICTIONARY_PATH,
    UnknownDictionaryError,
    compress,
    compress_all,
    decompress,
    load_dictionaries,
    store_dictionary,
)
from storage.records.record_shapes import FIRST_SHAPE, read_edge, unpack_shape

SAMPLES = [(nsid, cbor.encode(value)) for nsid, value in make_samples(99, 3_000)]
SHAPED = [(nsid, raw) for nsid, raw in SAMPLES if read_edge(raw) is not None]


def test_samples_come_back_and_shrink() -> None:
    stored = [compress(raw) for _, raw in SAMPLES]
    assert [decompress(one) for one in stored] == [raw for _, raw in SAMPLES]
    assert sum(map(len, stored)) < 0.4 * sum(len(raw) for _, raw in SAMPLES)


@given(raw=st.binary(max_size=600))
def test_any_bytes_come_back(raw: bytes) -> None:
    assert decompress(compress(raw)) == raw


@given(
    index=st.integers(0, len(SHAPED) - 1),
    place=st.integers(0, 260),
    byte=st.integers(0, 255),
    cut=st.booleans(),
)
def test_near_shapes_come_back(index: int, place: int, byte: int, cut: bool) -> None:
    """A record one byte off a shape is taken only if it is restored unchanged."""
    _, raw = SHAPED[index]
    place %= len(raw)
    changed = raw[:place] + (b"" if cut else bytes([byte])) + raw[place + 1 :]
    assert decompress(compress(changed)) == changed


def test_shapes_are_small_and_true() -> None:
    sizes: dict[str, set[int]] = {}
    for nsid, raw in SHAPED:
        stored = compress(raw)
        assert stored[0] >= FIRST_SHAPE
        sizes.setdefault(nsid.rpartition(".")[2], set()).add(len(stored))
        edge, value = read_edge(raw), cbor.decode(raw)
        assert edge is not None
        assert isinstance(value, dict)
        assert edge.nsid == nsid
        subject: Any = value["subject"]
        target = (
            edge.did
            if isinstance(subject, str)
            else f"at://{edge.did}/app.bsky.feed.post/{edge.rkey}"
        )
        assert target == (subject if isinstance(subject, str) else subject["uri"])
    assert sizes == {"like": {62}, "repost": {62}, "follow": {22}, "block": {22}}


@pytest.mark.parametrize(
    "rkey", ["2222222222222", "bzzzzzzzzzzzz", "c222222222222", "jzzzzzzzzzzzz"]
)
def test_a_subject_of_any_revision_comes_back(rkey: str) -> None:
    # The grammar has room for a bit more than a clock ever gives.
    uri = f"at://did:plc:{'a' * 24}/app.bsky.feed.post/{rkey}"
    subject = {"cid": cid_to_text(cid_for(b"x")), "uri": uri}
    time = "2024-01-01T00:00:00.000Z"
    fields = {"$type": "app.bsky.feed.like", "subject": subject, "createdAt": time}
    raw = cbor.encode(fields)
    assert decompress(compress(raw)) == raw


def test_every_usual_edge_is_a_shape() -> None:
    edges = [
        raw
        for nsid, raw in SAMPLES
        if nsid.endswith((".follow", ".block", ".repost")) and raw[0] == 0xA3
    ]
    assert all(read_edge(raw) is not None for raw in edges)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1_000])
def test_compress_all_equals_compress(count: int) -> None:
    values = [raw for _, raw in SAMPLES[:count]]
    if values:
        # A value that does not get shorter is kept as it is.
        values[0] = bytes(range(256))
    stored = compress_all(values)
    assert stored == [compress(value) for value in values]
    assert [decompress(one) for one in stored] == values


@pytest.mark.parametrize(
    "created_at",
    [
        "2026-02-30T00:00:00.000Z",
        "1969-12-31T23:59:59.999Z",
        "2026-01-01T24:00:00.000Z",
    ],
)
def test_times_that_a_shape_cannot_hold(created_at: str) -> None:
    follow = {
        "$type": "app.bsky.graph.follow",
        "subject": "did:plc:" + "a" * 24,
        "createdAt": created_at,
    }
    raw = cbor.encode(follow)  # type: ignore[arg-type]
    assert read_edge(raw) is None
    assert decompress(compress(raw)) == raw


def test_only_texts_of_record_cids_are_taken() -> None:
    raw = next(raw for nsid, raw in SHAPED if nsid.endswith(".like"))
    end = raw.index(b"curixF")
    for place in (end - 1, end - 52):
        for letter in b"abcdefghijklmnopqrstuvwxyz234567":
            changed = raw[:place] + bytes([letter]) + raw[place + 1 :]
            taken = read_edge(changed) is not None
            text = changed[end - 59 : end].decode()
            try:
                good = is_data_cid(cid_from_text(text))
            except InvalidEncodingError:
                good = False
            assert taken == good
            assert decompress(compress(changed)) == changed


def test_unpack_is_the_inverse() -> None:
    for _, raw in SHAPED[:200]:
        edge = read_edge(raw)
        assert edge is not None
        assert unpack_shape(edge.stored) == raw


def test_threads_have_contexts_of_their_own() -> None:
    failures: list[str] = []

    def work() -> None:
        for _, raw in SAMPLES[:500]:
            if decompress(compress(raw)) != raw:
                failures.append("differs")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_training_gives_a_dictionary(tmp_path: Any) -> None:
    size = write_dictionary(tmp_path / "new.zdict", seed=3, samples=3_000)
    assert 0 < size <= MAX_DICTIONARY_BYTES
    assert DICTIONARY_PATH.stat().st_size <= MAX_DICTIONARY_BYTES


def test_old_dictionary_is_readable(
    conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = train_dictionary((raw for _, raw in SAMPLES), 4_096)
    old = zstandard.ZstdCompressor(
        dict_data=zstandard.ZstdCompressionDict(data),
        compression_params=zstandard.ZstdCompressionParameters.from_level(
            3, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_dict_id=False
        ),
    )
    stored = b"\x09" + old.compress(SAMPLES[0][1])
    with pytest.raises(UnknownDictionaryError):
        decompress(stored)
    conn.execute("INSERT INTO dictionary (id, data) VALUES (9, %s)", (data,))
    monkeypatch.setattr(record_codec, "_dictionaries", {})
    assert load_dictionaries(conn) == [1, 9]
    assert decompress(stored) == SAMPLES[0][1]
    conn.rollback()


def test_other_dictionary_with_our_id_is_refused(conn: Conn) -> None:
    store_dictionary(conn)
    conn.execute("UPDATE dictionary SET data = 'x' WHERE id = 1")
    with pytest.raises(UnknownDictionaryError):
        store_dictionary(conn)
    conn.rollback()


@given(text=st.text(st.characters(codec=None, categories=None), max_size=80))
def test_clean_text_fits_postgres(text: str) -> None:
    cleaned = clean_text(text, 50)
    assert len(cleaned) <= 50
    assert "\x00" not in cleaned
    cleaned.encode()
    if text.isascii() and "\x00" not in text:
        assert cleaned == text[:50]


def test_clean_text_shows_what_it_replaced() -> None:
    assert clean_text("a\x00b\ud800c\ud83d\ude00", 99) == "a\ufffdb\ufffdc\U0001f600"
    assert clean_optional("", 9) is None
    assert clean_optional(5, 9) is None
    assert clean_optional("x" * 20, 9) == "x" * 9
