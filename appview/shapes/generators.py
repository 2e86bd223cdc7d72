"""Feed generators that a client names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from appview.hydration.records import GENERATOR
from appview.hydration.state import State
from appview.pipeline import Params, Pipeline
from appview.rules import Place, shown_records
from appview.skeletons.generators import find_generators
from storage.records.addresses import Address


def named_generators(
    present: Callable[[State, list[Address], Params], dict[str, Any]],
) -> Pipeline[list[Address]]:
    """Return the pipeline of the generators in `feed` or `feeds`."""
    return Pipeline(
        skeleton=find_generators,
        hydrate=State.load_named,
        rules=lambda state, found: shown_records(
            state, Place.NAMED, [a for a in found if a.collection == GENERATOR]
        ),
        present=present,
    )
