"""`bigworld feed import`: a feed of another service as a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from feeds.importing.feed_import import (
    MAX_IMPORT_BYTES,
    InvalidImportError,
    import_feed,
)
from service.cli.groups import read_config
from service.cli.provider_client import query_provider
from service.operator_errors import ServiceError

_RESOLVE_HANDLE: Final = "com.atproto.identity.resolveHandle"


def import_file(
    file: Annotated[Path, typer.Argument(help="JSON file of Graze or SkyFeed.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; not replaced.")
    ] = None,
) -> None:
    """Write a Graze or SkyFeed feed as a recipe; name what is lost."""
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_IMPORT_BYTES + 1).decode()
        imported = import_feed(text, _resolve)
        if output is None:
            typer.echo(imported.text, nl=False)
        else:
            with output.open("x") as written:
                written.write(imported.text)
    except (OSError, InvalidImportError, UnicodeDecodeError) as error:
        raise ServiceError(f"{file} is not imported: {error}") from error
    for entry in imported.remarks:
        typer.echo(str(entry), err=True)
    total = len(imported.entries)
    exact = total - len(imported.remarks)
    typer.echo(f"{imported.service}: {exact} of {total} parts unchanged", err=True)


def _resolve(handle: str) -> str | None:
    """Return the DID of a handle, None if the provider does not know it."""
    try:
        reply = query_provider(read_config(), _RESOLVE_HANDLE, {"handle": handle})
    except ServiceError:
        return None
    did = reply.get("did")
    return did if isinstance(did, str) else None
