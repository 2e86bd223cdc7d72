"""app.bsky.feed.getFeedGenerators."""

from __future__ import annotations

from typing import Final

from appview.pipeline import Pipeline
from appview.shapes.generators import named_generators
from appview.views.named import generator_view
from storage.records.addresses import Address

METHOD: Final[Pipeline[list[Address]]] = named_generators(
    lambda state, found, _: {"feeds": [generator_view(state, a) for a in found]}
)
