"""The registration of the methods of the read side."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages
from typing import Final

import appview
from appview.app import AppView
from appview.pipeline import Method
from appview.views.checked import load_catalog
from network.xrpc.server import XrpcServer

AUTHORITIES: Final = ("app", "bigworld", "blue", "com")
"""First parts of NSIDs. A package `appview/app_bsky` holds methods of app.bsky."""
_GROUPS: Final = frozenset({"skeleton"})
"""Folders that are no part of an NSID: too many files for one."""


def add_methods(server: XrpcServer, app: AppView) -> None:
    """Register every method of the read side on `server`."""
    load_catalog()
    for nsid, module in find_methods():
        add_method(server, app, nsid, import_module(module).METHOD)


def add_method(server: XrpcServer, app: AppView, nsid: str, method: Method) -> None:
    """Register one method."""
    server.add(nsid, method.handler(app, server), method.auth)


def find_methods() -> Iterator[tuple[str, str]]:
    """Yield each method's NSID and module, which has a `METHOD`.

    `appview/app_bsky/feed/get_posts.py` serves app.bsky.feed.getPosts.
    """
    for found in walk_packages(appview.__path__, "appview."):
        nsid = nsid_of(found.name)
        if nsid is not None and not found.ispkg:
            yield nsid, found.name


def nsid_of(module: str) -> str | None:
    """Return the NSID that a module's name stands for; None outside the methods."""
    _, package, *path = module.split(".")
    authority, _, domain = package.partition("_")
    if authority not in AUTHORITIES or not domain or not path:
        return None
    first, *words = path.pop().split("_")
    name = first + "".join(word.capitalize() for word in words)
    groups = [part for part in path if part not in _GROUPS]
    return ".".join((authority, domain, *groups, name))
