"""Skeletons for somebody else's AppView: identifiers instead of views.

The AppView names the viewer in a parameter, unproven. Only the public graph of that
account counts (follows, blocks); its mutes are private, and the AppView applies them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from appview.hydration.state import State
from appview.paging import Page
from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext
from network.xrpc.server import AuthMode
from storage.private.private_state import NOTHING
from storage.records.addresses import Address


@dataclass(frozen=True, slots=True)
class Skeleton(BlockingMethod):
    """A method whose viewer is the parameter `viewer`."""

    method: BlockingMethod
    auth: AuthMode = "none"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any] | None:
        unproven = replace(context, viewer_did=params.get("viewer"), _private=NOTHING)
        return self.method.run(unproven, params)


Present = Callable[[State, Page[Any], Params], dict[str, Any]]


def dids(state: State, page: Page[int], _: Params) -> dict[str, Any]:
    """Return the accounts of a page as DIDs."""
    return {"dids": [state.actors[actor].did for actor in page.items]}


def skeleton_actors(state: State, page: Page[int], _: Params) -> dict[str, Any]:
    """Return the accounts of a page as objects."""
    return {"actors": [{"did": state.actors[actor].did} for actor in page.items]}


def uris(name: str) -> Present:
    """Return the `present` of AT-URIs in the field `name`."""

    def present(state: State, page: Page[Address], _: Params) -> dict[str, Any]:
        return {name: [state.uris[address] for address in page.items]}

    return present


def uri_objects(name: str) -> Present:
    """Return the `present` of objects with an AT-URI in the field `name`."""

    def present(state: State, page: Page[Address], _: Params) -> dict[str, Any]:
        return {name: [{"uri": state.uris[address]} for address in page.items]}

    return present
