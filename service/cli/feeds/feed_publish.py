"""`bigworld feed publish|unpublish`: recipes as feeds of an account."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from feeds.recipes.fields import InvalidRecipeError
from feeds.recipes.parsing import parse_recipe
from service.cli.feeds.pds_session import (
    Identifier,
    Pds,
    XrpcClient,
    read_avatar,
    sign_in,
)
from service.cli.groups import read_config
from service.operator_errors import ServiceError
from service.recipe_files import read_text
from storage.collections import FEED_GENERATOR

PUT_RECIPE: Final = "bigworld.feed.putRecipe"
DELETE_RECIPE: Final = "bigworld.feed.deleteRecipe"
_DESCRIBE: Final = "app.bsky.feed.describeFeedGenerator"
# What the recipe decides; all else in a record stays as it is.
_DECIDED: Final = frozenset(
    (
        "did",
        "displayName",
        "description",
        "descriptionFacets",
        "contentMode",
        "acceptsInteractions",
        "skyfeedBuilder",
    )
)

Provider = Annotated[
    str | None,
    typer.Option(help="URL of the provider that serves it. Default: this one."),
]


def publish(
    recipe: Annotated[Path, typer.Argument(help="A recipe file (.toml).")],
    pds: Pds,
    identifier: Identifier,
    avatar: Annotated[
        Path | None, typer.Option(help="PNG or JPEG file of at most 1 MB.")
    ] = None,
    provider: Provider = None,
) -> None:
    """Publish a recipe as a feed of an account, or change it.

    The password is read from ATPROTO_PASSWORD, or asked for. Use an app password.
    """
    try:
        text = read_text(recipe)
        name = parse_recipe(text).name
        image = avatar.read_bytes() if avatar is not None else None
    except (InvalidRecipeError, OSError) as error:
        raise ServiceError(f"{recipe} is not published: {error}") from error
    mime = read_avatar(image) if image is not None else ""
    url, service_did = _find_provider(provider)
    with sign_in(pds, identifier) as session:
        # First, since it refuses a recipe that it cannot serve.
        client = session.service_client(url, service_did, PUT_RECIPE)
        saved = client.call(PUT_RECIPE, {"recipe": text})
        known = session.find_record(FEED_GENERATOR, name)
        record = _merge(saved["record"], known["value"] if known else {})
        if image is not None:
            record["avatar"] = session.pds.upload(image, mime)
        swap = str(known["cid"]) if known else None
        uri = session.put_record(FEED_GENERATOR, name, record, swap)
    typer.echo(uri)
    done = "changed" if known else "published"
    page = f"https://bsky.app/profile/{session.handle}/feed/{name}"
    typer.echo(f"{done}: served by {service_did}", err=True)
    typer.echo(f"next: pin it in a client, {page}", err=True)


def unpublish(
    name: Annotated[str, typer.Argument(help="Name of the feed.")],
    pds: Pds,
    identifier: Identifier,
    provider: Provider = None,
) -> None:
    """Remove a feed of an account and its recipe."""
    url, service_did = _find_provider(provider)
    with sign_in(pds, identifier) as session:
        session.delete_record(FEED_GENERATOR, name)
        client = session.service_client(url, service_did, DELETE_RECIPE)
        client.call(DELETE_RECIPE, {"name": name})
    typer.echo(f"{name} is removed", err=True)


def _find_provider(url: str | None) -> tuple[str, str]:
    """Return the URL and the DID of a provider."""
    url = url or read_config().provider_url
    return url, str(XrpcClient(url).query(_DESCRIBE)["did"])


def _merge(record: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Return a record that keeps avatar, labels and createdAt of the known one."""
    kept = {key: value for key, value in known.items() if key not in _DECIDED}
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"createdAt": now.replace("+00:00", "Z")} | kept | record
