"""`bigworld verify`: check the proof of a record without trust in its server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any, Final

import httpx
import typer

from network.errors import IdentityError, NetworkError
from protocol.data.cbor import decode
from protocol.data.cid import cid_to_text
from protocol.data.json_form import to_json
from protocol.errors import InvalidSyntaxError, ProtocolError
from protocol.identity.did_document import DidDocument
from protocol.identity.keys import PublicKey, parse_did_key
from protocol.repo.record_proof import RecordProof, verify_record_proof
from protocol.syntax.at_uri import AtUri, parse_at_uri
from service.operator_errors import ConfigError, ServiceError
from service.outgoing import make_fetcher, make_resolver
from service.runtime.config import Config

_GET_RECORD: Final = "com.atproto.sync.getRecord"
_PATIENCE_S: Final = 60.0
_MOST_BYTES: Final = 32 * 1024 * 1024


def verify(config: Config, uri: str, server: str | None, *, as_json: bool) -> None:
    """Verify a record and print what was proved.

    `server` is the origin that serves the proof, by default the running provider. A
    record that is proved absent exits 1. Raises ServiceError if nothing was proved.
    """
    address = _read_uri(uri)
    document = asyncio.run(_resolve(config, address))
    key = _signing_key(document)
    path = f"{address.collection}/{address.rkey}"
    origin = (server or config.provider_url).rstrip("/")
    car = _fetch(origin, document, address)
    try:
        proof = verify_record_proof(
            car, document.did, path, key, time.time_ns() // 1_000
        )
    except ProtocolError as error:
        raise ServiceError(
            f"{origin} proves nothing about {uri}: {type(error).__name__}: {error}"
        ) from error
    facts = _describe(document, path, origin, key, proof)
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
    else:
        _print(facts)
    if proof.cid is None:
        raise typer.Exit(1)


def _read_uri(text: str) -> AtUri:
    try:
        address = parse_at_uri(text.strip())
    except InvalidSyntaxError as error:
        raise ConfigError(f"{text!r} is not an AT-URI: {error}") from None
    if address.rkey is None:
        raise ConfigError(
            f"{text!r} names no record; write at://DID-or-handle/collection/key"
        )
    return address


async def _resolve(config: Config, address: AtUri) -> DidDocument:
    async with make_fetcher(config) as fetcher:
        try:
            document, _ = await make_resolver(config, fetcher).resolve_identity(
                address.authority
            )
        except (IdentityError, NetworkError) as error:
            raise ServiceError(
                f"{address.authority} does not resolve: {error}"
            ) from None
    return document


def _signing_key(document: DidDocument) -> PublicKey:
    if document.signing_key is None:
        raise ServiceError(
            f"{document.did} names no signing key; nothing can be proved"
        )
    return parse_did_key(document.signing_key)


def _fetch(origin: str, document: DidDocument, address: AtUri) -> bytes:
    params: Mapping[str, str] = {
        "did": document.did,
        "collection": str(address.collection),
        "rkey": str(address.rkey),
    }
    body = bytearray()
    try:
        with httpx.stream(
            "GET",
            f"{origin}/xrpc/{_GET_RECORD}",
            params=params,
            timeout=_PATIENCE_S,
            trust_env=False,
        ) as reply:
            for chunk in reply.iter_bytes():
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise ServiceError(f"the proof of {origin} is over 32 MiB")
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise ServiceError(f"{origin} does not answer: {error}") from error
    if reply.is_success:
        return bytes(body)
    raise ServiceError(f"{origin} refused: {_refusal(bytes(body), reply.status_code)}")


def _refusal(body: bytes, status: int) -> str:
    try:
        refused = json.loads(body)
        return f"{refused['error']}: {refused.get('message', '')}"
    except (ValueError, KeyError, TypeError):
        return f"HTTP {status}"


def _describe(
    document: DidDocument, path: str, origin: str, key: PublicKey, proof: RecordProof
) -> dict[str, Any]:
    return {
        "uri": f"at://{document.did}/{path}",
        "server": origin,
        "exists": proof.cid is not None,
        "key": key.did_key,
        "commit": cid_to_text(proof.commit),
        "rev": proof.rev,
        "nodes": proof.nodes,
        "cid": None if proof.cid is None else cid_to_text(proof.cid),
        "record": None if proof.value is None else to_json(decode(proof.value)),
    }


def _print(facts: Mapping[str, Any]) -> None:
    verdict = "proved" if facts["exists"] else "proved absent"
    typer.echo(f"{verdict}: {facts['uri']}")
    lines = {
        "signed by": facts["key"],
        "commit": f"{facts['commit']} at revision {facts['rev']}",
        "tree": f"{facts['nodes']} nodes from the commit to the record",
        "record": facts["cid"] or "not in the tree",
        "served by": f"{facts['server']}, which need not be trusted",
    }
    for name, text in lines.items():
        typer.echo(f"  {name:10} {text}")
    if facts["exists"]:
        typer.echo(json.dumps(facts["record"], ensure_ascii=False, indent=2))
