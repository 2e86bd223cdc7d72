from __future__ import annotations

from appview_world import provider

__all__ = ["provider"]
