"""app.bsky.unspecced.getAgeAssuranceState: unknown for everybody."""

from __future__ import annotations

from typing import Final

from appview.shapes.client_settings import SettingsRead

METHOD: Final = SettingsRead(lambda context, _: {"status": "unknown"}, auth="required")
