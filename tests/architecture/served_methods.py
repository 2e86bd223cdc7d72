"""The XRPC methods of our servers, captured from the functions that build them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock
from unittest.mock import MagicMock

from network.http.client import Fetcher
from network.http.policy import Policy
from network.xrpc.server import XrpcServer
from pds.application import create_app as create_pds
from pds.settings import PdsSettings
from service.provider import make_server
from service.runtime.config import Config


@dataclass(frozen=True, slots=True)
class Served:
    """One registered method."""

    nsid: str
    kind: str
    auth: str
    text: str


class _CapturedError(Exception):
    """Carries a server out of the function that builds it."""

    def __init__(self, server: XrpcServer) -> None:
        super().__init__()
        self.server = server


def provider_methods() -> list[Served]:
    """Return the methods of the provider."""
    # Methods keep their dependencies and use none while they are registered.
    nobody: Any = MagicMock()
    with tempfile.TemporaryDirectory() as home:
        config = Config.read(home=Path(home))
        return captured(lambda: make_server(config, nobody, nobody).app())


def pds_methods() -> list[Served]:
    """Return the methods of the PDS."""
    nobody: Any = None
    settings = PdsSettings(
        public_url="https://pds.example.com",
        handle_domains=("example.com",),
        plc_url="https://plc.example.com",
        secret=bytes(32),
    )
    return captured(
        lambda: create_pds(settings, nobody, fetcher=Fetcher(Policy()), identity=nobody)
    )


def captured(build: Callable[[], object]) -> list[Served]:
    def capture(server: XrpcServer, *_: object, **__: object) -> None:
        raise _CapturedError(server)

    with mock.patch.object(XrpcServer, "app", capture):
        try:
            build()
        except _CapturedError as caught:
            server = caught.server
            return [read_method(server, nsid) for nsid in server.methods]
    raise AssertionError("no server was built")


def read_method(server: XrpcServer, nsid: str) -> Served:
    registered = server._methods.get(nsid)
    if registered is None:
        method, _ = server._subscriptions[nsid]
        return Served(nsid, method.kind, "none", method.description)
    method = registered.method
    return Served(nsid, method.kind, registered.auth, method.description)
