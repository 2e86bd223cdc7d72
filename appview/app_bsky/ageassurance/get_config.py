"""app.bsky.ageassurance.getConfig: the regions that need age assurance."""

from __future__ import annotations

from typing import Any, Final

from appview.pipeline import Params
from appview.session import RequestContext
from appview.shapes.client_settings import SettingsRead


def _read(context: RequestContext, _: Params) -> dict[str, Any]:
    return {**context.app.client_settings.age_assurance}


METHOD: Final = SettingsRead(_read)
