"""The version of this program, as the image, the User-Agent and `--version` say it."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
