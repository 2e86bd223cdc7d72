"""Devices that clients register for pushes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext
from appview.shapes.procedure import private_account_of, refusing_too_many
from network.xrpc.server import AuthMode, XrpcError
from storage.postgres.pool import Conn
from storage.private.push_registrations import Device
from storage.private.sealing import Account

PLATFORMS: Final = ("ios", "android", "web")
_MAX_CHARS: Final = 4_096


@dataclass(frozen=True, slots=True)
class DeviceChange(BlockingMethod):
    """A procedure that registers a device, or ends its registration."""

    write: Callable[[Conn, Account, Device], None]
    auth: AuthMode = "required"

    def run(self, context: RequestContext, params: Params) -> None:
        account = private_account_of(context)
        if not context.app.sends_pushes:
            raise XrpcError(
                "MethodNotImplemented", "this provider sends no push notifications", 501
            )
        if params["serviceDid"] != context.app.service_did:
            raise XrpcError("InvalidRequest", "Invalid serviceDid.", 400)
        device = _device(params)
        with context.app.private.write() as conn, refusing_too_many():
            self.write(conn, account, device)


def _device(params: Params) -> Device:
    if params["platform"] not in PLATFORMS:
        message = 'Unsupported platform: must be "ios", "android", or "web".'
        raise XrpcError("InvalidRequest", message, 400)
    if max(len(params["token"]), len(params["appId"])) > _MAX_CHARS:
        raise XrpcError(
            "InvalidRequest", f"token and appId have at most {_MAX_CHARS} letters", 400
        )
    return Device(
        params["token"],
        params["platform"],
        params["appId"],
        params.get("ageRestricted", False),
    )
