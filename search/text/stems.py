"""Light stems of words by Snowball, kept beside the words themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from threading import local
from typing import Any, Final

_ALGORITHMS: Final = {
    "ar": "arabic",
    "ca": "catalan",
    "cs": "czech",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "eo": "esperanto",
    "es": "spanish",
    "et": "estonian",
    "eu": "basque",
    "fi": "finnish",
    "fr": "french",
    "ga": "irish",
    "hi": "hindi",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "it": "italian",
    "lt": "lithuanian",
    "ne": "nepali",
    "nl": "dutch",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
}
STEMMED_LANGUAGES: Final = frozenset(_ALGORITHMS)
MARK: Final = "~"
"""Before a stem in an index: no token begins with it."""
_MAX_LANGUAGES: Final = 2
_MAX_SOUGHT: Final = 12
_OF_SCRIPT: Final = (
    (
        "a",
        "z",
        ("en", "es", "de", "pt", "fr", "it", "nl", "sv", "tr", "pl", "fi", "id"),
    ),
    ("\u0370", "\u03ff", ("el",)),
    ("\u0400", "\u052f", ("ru",)),
    ("\u0561", "\u0587", ("hy",)),
    ("\u0620", "\u06ff", ("ar",)),
    ("\u0900", "\u097f", ("hi",)),
    ("\u0b80", "\u0bff", ("ta",)),
)
_SHORTEST: Final = 4
_SHORTEST_SOUGHT: Final = 3
_CACHED_WORDS: Final = 20_000
_REMEMBERED: Final = 50_000
"""Words of a language whose lexemes are kept."""
_stemmers: Final = local()


def stem_tokens(tokens: Sequence[str], lang: str) -> list[str | None]:
    """Return the stem of each token in a language.

    None where it equals the token, where the token is short or no word, and where the
    language has no stemmer.
    """
    stemmer = _stemmer_of(lang)
    if stemmer is None:
        return [None] * len(tokens)
    stems = stemmer.stemWords([token if _is_word(token) else "" for token in tokens])
    return [
        stem if stem and stem != token else None
        for stem, token in zip(stems, tokens, strict=True)
    ]


def _is_word(token: str) -> bool:
    return len(token) >= _SHORTEST and not token[0].isdigit() and token[-1] not in "+#"


def _stemmer_of(lang: str) -> Any:
    """Return the stemmer of this thread, since one must not be shared."""
    algorithm = _ALGORITHMS.get(lang)
    if algorithm is None or algorithm not in _known():
        return None
    held: dict[str, Any] = _stemmers.__dict__
    if algorithm not in held:
        import Stemmer

        held[algorithm] = Stemmer.Stemmer(algorithm, _CACHED_WORDS)
    return held[algorithm]


@cache
def _known() -> frozenset[str]:
    import Stemmer

    return frozenset(Stemmer.algorithms())


def document_stems(tokens: Iterable[str], langs: Iterable[str]) -> set[str]:
    """Return the stems of the tokens of a document in its languages, marked.

    Two languages are read at most: the detected one comes first.
    """
    words = set(tokens)
    known = [lang for lang in dict.fromkeys(langs) if lang in STEMMED_LANGUAGES]
    found: set[str | None] = set()
    for lang in known[:_MAX_LANGUAGES]:
        found.update(map(_lexemes_of(lang).__getitem__, words))
    return {lexeme for lexeme in found if lexeme is not None}


class _Lexemes(dict[str, str | None]):
    """The lexeme of the stem of each word in a language, filled when needed."""

    def __init__(self, lang: str) -> None:
        self._lang = lang

    def __missing__(self, word: str) -> str | None:
        if len(self) >= _REMEMBERED:
            self.clear()
        stem = stem_tokens([word], self._lang)[0]
        lexeme = None if stem is None else stem_lexeme(self._lang, stem)
        self[word] = lexeme
        return lexeme


_lexemes_of: Final = cache(_Lexemes)


def stem_lexeme(lang: str, stem: str) -> str:
    """Return a stem as an index holds it.

    The language is part of it: stems of two languages may be the same letters.
    """
    return f"{MARK}{lang}:{stem}"


def query_stems(word: str, langs: Iterable[str] = ()) -> dict[str, str]:
    """Return the stem of a word by language, the word itself where it is one.

    Without languages, those of the word's script are tried. Empty for no word.
    """
    if len(word) < _SHORTEST_SOUGHT or word[0].isdigit() or word[-1] in "+#":
        return {}
    known = [lang for lang in langs if lang in STEMMED_LANGUAGES]
    tried = [*dict.fromkeys(known or _languages_of(word))][:_MAX_SOUGHT]
    return {lang: stem_tokens([word], lang)[0] or word for lang in tried}


def _languages_of(word: str) -> Sequence[str]:
    for first, last, langs in _OF_SCRIPT:
        if first <= word[0] <= last:
            return langs
    return ()
