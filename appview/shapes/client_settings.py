"""Methods that answer from the settings alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext
from network.xrpc.server import AuthMode, XrpcError


@dataclass(frozen=True, slots=True)
class SettingsRead(BlockingMethod):
    """A method that reads no database."""

    read: Callable[[RequestContext, Params], dict[str, Any]]
    auth: AuthMode = "optional"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        return self.read(context, params)


def refuse_age_assurance(context: RequestContext, params: Params) -> dict[str, Any]:
    """Raise the error of methods that begin to assure an age."""
    raise XrpcError(
        "MethodNotImplemented", "this service does not assure ages of accounts", 501
    )
