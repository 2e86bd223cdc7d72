"""app.bsky.unspecced.initAgeAssurance: refused, as this provider assures no ages."""

from __future__ import annotations

from typing import Final

from appview.shapes.client_settings import SettingsRead, refuse_age_assurance

METHOD: Final = SettingsRead(refuse_age_assurance, auth="required")
