"""Emoji: their characters, and one form for their variants.

Skin tones and variation selectors are folded away. A sequence joined by ZWJ is one
token, and each of its parts is another.
"""

from __future__ import annotations

import re
from typing import Final

ZWJ: Final = "\u200d"
EMOJI: Final = (
    "\u2194-\u2199\u21a9\u21aa\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa"
    "\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u27bf\u2934\u2935\u2b05-\u2b07"
    "\u2b1b\u2b1c\u2b50\u2b55\U0001f000-\U0001f1e5\U0001f200-\U0001faff"
)
"""Ranges of a character class, without the letters of flags."""
REGIONS: Final = "\U0001f1e6-\U0001f1ff"
KEYCAP: Final = "\u20e3"
SEQUENCE: Final = (
    rf"[{EMOJI}](?:{ZWJ}[{EMOJI}]|{ZWJ}[{REGIONS}]{{1,6}}){{0,12}}"
    rf"|[{REGIONS}]{{1,2}}|{KEYCAP}[0-9#*]"
)
"""Pattern of one emoji in folded text, where the frame of a key precedes it."""
SKIN_TONES: Final = range(0x1F3FB, 0x1F400)

_BLACK_FLAG: Final = "\U0001f3f4"
_REGION_FLAG: Final = re.compile("\U0001f3f4[\U000e0061-\U000e007a]{1,6}\U000e007f")
_KEY: Final = re.compile(rf"([0-9#*])\ufe0f?{KEYCAP}")
_LOOSE_ZWJ: Final = re.compile(rf"(?<![{EMOJI}\ufe0f]){ZWJ}+")
_TAG_TO_REGION: Final = ord("\U0001f1e6") - ord("\U000e0061")


def join_sequences(text: str) -> str:
    """Keep the joiners of emoji only; move the frames of keys before them.

    The flag of a region (England, Wales), a black flag with invisible tags, gets
    letters.
    """
    if _BLACK_FLAG in text:
        text = _REGION_FLAG.sub(_letters_of_flag, text)
    if ZWJ in text:
        text = _LOOSE_ZWJ.sub("", text)
    if KEYCAP in text:
        text = _KEY.sub(rf"{KEYCAP}\1", text)
    return text


def _letters_of_flag(match: re.Match[str]) -> str:
    letters = (chr(ord(tag) + _TAG_TO_REGION) for tag in match.group()[1:-1])
    return _BLACK_FLAG + ZWJ + "".join(letters)


def parts_of_emoji(sequence: str) -> list[str]:
    """Return the single emoji of a sequence; none for a single one."""
    if ZWJ in sequence:
        parts = sequence.split(ZWJ)
        return [part for part in parts if not "\U0001f1e6" <= part <= "\U0001f1ff"]
    return [sequence[1]] if sequence[0] == KEYCAP and sequence[1].isdigit() else []
