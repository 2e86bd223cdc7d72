"""blue.microcosm.links.getBacklinksCount."""

from __future__ import annotations

from typing import Final

from appview.blue_microcosm.links.get_backlinks import count_total
from appview.pipeline import SessionRead

METHOD: Final = SessionRead(count_total)
