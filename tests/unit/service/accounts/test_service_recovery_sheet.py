"""Recovery keys as words: round trips, and every mistake of a writer."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.identity.keys import Curve, PrivateKey
from service.cli.accounts.recovery_sheet import (
    WORDS,
    WordsError,
    key_of,
    load_key,
    read_sheet,
    sheet_of,
    store_sheet,
    words_of,
)
from service.operator_errors import ServiceError

KEY = PrivateKey("k256", bytes(range(1, 33)))


@given(st.integers(1, 2**255), st.sampled_from(["k256", "p256"]))
def test_words_return_the_key(number: int, curve: Curve) -> None:
    key = PrivateKey(curve, number.to_bytes(32, "big"))
    words = words_of(key)
    assert len(words) == WORDS
    read = key_of(words)
    assert (read.curve, read.to_bytes()) == (curve, key.to_bytes())


def test_words_are_stable() -> None:
    # Paper outlives a version: these words must always give this key.
    text = (
        "bahad bamag bibaj bimal boban bomar bubat bumaz dabid"
        " damig dibij dimil dobin domir dubit dumiz fagag mofav"
    )
    assert " ".join(words_of(KEY)) == text
    assert key_of(text.split()).to_bytes() == KEY.to_bytes()


@settings(max_examples=300)
@given(st.data())
def test_one_wrong_letter_is_found(data: st.DataObject) -> None:
    words = words_of(KEY)
    place = data.draw(st.integers(0, WORDS - 1))
    at = data.draw(st.integers(0, 4))
    letter = data.draw(st.sampled_from(string.ascii_lowercase))
    word = words[place]
    changed = word[:at] + letter + word[at + 1 :]
    if changed == word:
        return
    with pytest.raises(WordsError) as error:
        key_of([*words[:place], changed, *words[place + 1 :]])
    # Messages may end in a log.
    assert word not in str(error.value)


def test_exchanged_words_are_found() -> None:
    words = words_of(KEY)
    for place in range(WORDS - 1):
        swapped = list(words)
        swapped[place], swapped[place + 1] = swapped[place + 1], swapped[place]
        with pytest.raises(WordsError, match="misplaced"):
            key_of(swapped)


@pytest.mark.parametrize("count", [0, 1, 17, 19])
def test_number_of_words_is_checked(count: int) -> None:
    with pytest.raises(WordsError, match=f"18 words, not {count}"):
        key_of((words_of(KEY) * 2)[:count])


def test_misspelled_word_is_named_by_its_place() -> None:
    words = words_of(KEY)
    words[6] = "queen"
    with pytest.raises(WordsError, match="word 7 is misspelled"):
        key_of(words)


@pytest.mark.parametrize("account", ["alice.example.com", "robot babab", "babab"])
def test_sheet_is_read_back(account: str) -> None:
    sheet = sheet_of(KEY, account, "2026-12-01")
    assert KEY.public.did_key in sheet
    for text in (sheet, sheet.upper(), sheet.replace("\n", "\r\n")):
        assert read_sheet(text).to_bytes() == KEY.to_bytes()
    bare = "-".join(words_of(KEY))
    assert read_sheet(bare).to_bytes() == KEY.to_bytes()


def test_stored_sheet_is_private_and_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.txt"
    store_sheet(path, sheet_of(KEY, "alice.example.com", "2026-12-01"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path).public == KEY.public
    with pytest.raises(ServiceError, match="is there already"):
        store_sheet(path, "other")
    with pytest.raises(ServiceError, match="cannot be written"):
        store_sheet(tmp_path / "none" / "key.txt", "x")
    assert load_key(path).public == KEY.public


@pytest.mark.parametrize("data", [b"\xff\xfe", b"x" * 20_000, b""])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(data)
    with pytest.raises(WordsError):
        load_key(path)
    with pytest.raises(ServiceError, match="cannot be read"):
        load_key(tmp_path / "missing")
