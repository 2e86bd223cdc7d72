"""`bigworld did …`: the provider's did:plc, which outlives its host name."""

from __future__ import annotations

import asyncio
from typing import Final

import typer

from network.errors import XrpcError
from pds.identity.directory import Directory
from plc.operation_draft import create_service
from plc.operation_format import PlcService, did_for_genesis
from protocol.errors import ProtocolError
from protocol.identity.keys import DID_KEY_PREFIX, PrivateKey
from protocol.syntax import Did
from service.cli.groups import make_group, read_config
from service.operator_errors import ConfigError, ServiceError
from service.outgoing import make_fetcher
from service.provider import did_document
from service.runtime.config import Config
from service.runtime.secrets import SecretStore

app = make_group("did")

ROTATION_KEY: Final = "provider-rotation"
"""Secret that signs the operations of the provider's did:plc."""


@app.command()
def create() -> None:
    """Register a did:plc with the provider's services, and print it.

    Its rotation key is kept in $BIGWORLD_HOME/secrets/provider-rotation: back it up.
    """
    config = read_config()
    if config.service_did is not None:
        raise ConfigError(f"service_did is {config.service_did} already: `did update`")
    _check_public(config)
    did = asyncio.run(publish(config, None))
    typer.echo(did)
    typer.echo(f"set BIGWORLD_SERVICE_DID={did} and restart the provider", err=True)


@app.command()
def update() -> None:
    """Publish the services of this version at the current public_url."""
    config = read_config()
    if config.service_did is None:
        raise ConfigError("service_did is not set: run `bigworld did create` first")
    _check_public(config)
    did = asyncio.run(publish(config, Did(config.service_did)))
    typer.echo(f"{did} names {config.provider_url}")


def _check_public(config: Config) -> None:
    if config.public_url is None and not config.dev_network:
        raise ConfigError("public_url is not set: the services need a public origin")


async def publish(config: Config, did: Did | None) -> Did:
    """Submit an operation with the provider's services; return the DID.

    Without `did` it is the first operation of a new one. Raises ServiceError.
    """
    signer = PrivateKey("k256", SecretStore(config.home).key(ROTATION_KEY))
    services, methods = declared(config)
    async with make_fetcher(config) as fetcher:
        directory = Directory(config.directory_url, fetcher)
        try:
            last = None if did is None else await directory.last_operation(did)
            operation = create_service(services, methods, signer, last=last)
            if did is None:
                did = did_for_genesis(operation)
            await directory.submit(did, operation)
        except (XrpcError, ProtocolError) as error:
            raise ServiceError(f"{config.directory_url}: {error}") from error
    return did


def declared(config: Config) -> tuple[dict[str, PlcService], dict[str, str]]:
    """Return the services and keys (did:key) of the provider's document."""
    document = did_document(config)
    services = {
        item["id"].rpartition("#")[2]: PlcService(item["type"], item["serviceEndpoint"])
        for item in document["service"]
    }
    methods = {
        item["id"].rpartition("#")[2]: DID_KEY_PREFIX + item["publicKeyMultibase"]
        for item in document.get("verificationMethod", ())
    }
    return services, methods
