"""`bigworld feed check|preview|explain|backtest`: feeds in files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from feeds.recipes.fields import InvalidRecipeError
from feeds.recipes.parsing import parse_recipe
from feeds.scripts.script_book import name_fault, read_script
from feeds.scripts.script_process import Limits, ScriptError, ScriptProcess
from feeds.serving.backtest import MAX_DAYS
from network.xrpc.reply import encode_json
from service.cli.groups import AsJson, read_config
from service.cli.provider_client import print_posts
from service.cli.table import print_rows
from service.operator_errors import ServiceError
from service.recipe_files import check_name, read_text

if TYPE_CHECKING:
    from service.recipe_reading import OpenFeed

_DAYS: Final = (
    "day",
    "posts",
    "new_posts",
    "overlap",
    "median_hours",
    "authors",
    "empty_hours",
    "stale_hours",
)
Recipe = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A .toml or .py file, or a feed's name.")
]
Viewer = Annotated[
    str | None, typer.Option(help="Account that reads it, by DID or handle.")
]


@contextmanager
def _open(recipe: str, viewer: str | None) -> Iterator[OpenFeed]:
    # Half of the program, which `feed list` and `feed check` do not need.
    from service.recipe_reading import open_feed

    with open_feed(read_config(), recipe, viewer) as opened:
        yield opened


def check(
    files: Annotated[
        list[Path], typer.Argument(help="Recipes (.toml) and Python files (.py).")
    ],
) -> None:
    """Check feeds in files; errors name the line."""
    faults = 0
    for path in files:
        try:
            result = f"ok, {_check_script(path) or _check_recipe(path)}"
        except (InvalidRecipeError, ScriptError, ValueError) as error:
            faults += 1
            result = str(error)
        except OSError as error:
            faults += 1
            result = str(error.strerror)
        typer.echo(f"{path}: {result}")
    if faults:
        raise ServiceError(f"{faults} of {len(files)} feeds cannot be served")


def _check_recipe(path: Path) -> str:
    text = read_text(path)
    recipe = parse_recipe(text)
    check_name(text)
    return f"{recipe.name}, sources: {len(recipe.sources)}"


def _check_script(path: Path) -> str | None:
    """Load a Python file; return None for another one."""
    if path.suffix != ".py":
        return None
    if fault := name_fault(path.stem):
        raise ValueError(fault)
    process = ScriptProcess(path.absolute(), read_script(path), Limits(), 2)
    process.close()
    return f"{path.stem}, Python"


def preview(
    recipe: Recipe,
    viewer: Viewer = None,
    limit: Annotated[
        int, typer.Option(min=1, max=100, help="Maximum number of results.")
    ] = 20,
    cursor: Annotated[str | None, typer.Option(help="Cursor of a page before.")] = None,
    skeleton: Annotated[
        bool, typer.Option("--skeleton", help="Print the reply of getFeedSkeleton.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a page exactly as it is served."""
    with _open(recipe, viewer) as opened:
        page = opened.preview(limit, cursor, skeleton=skeleton)
        reasons = [] if page["feed"] else opened.explain_empty()
    if skeleton:
        print(encode_json(page).decode())
    else:
        print_posts([item["post"] for item in page["feed"]], as_json=as_json)
    for reason in reasons:
        typer.echo(f"empty: {reason}", err=True)


def explain(
    recipe: Recipe,
    uri: Annotated[str, typer.Argument(help="AT-URI of a post.")],
    viewer: Viewer = None,
    as_json: AsJson = False,
) -> None:
    """Say why a post is in a feed at its rank, or why it is not."""
    with _open(recipe, viewer) as opened:
        found = opened.explain(uri)
    if as_json:
        print(json.dumps(asdict(found), ensure_ascii=False))
        return
    typer.echo(f"in, at rank {found.rank}" if found.is_in else "not in")
    for reason in found.reasons:
        typer.echo(f"  {reason}")


def backtest(
    recipe: Recipe,
    viewer: Viewer = None,
    days: Annotated[int, typer.Option(min=1, max=MAX_DAYS, help="Past days.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Replay the first page of past hours, with today's counts."""
    with _open(recipe, viewer) as opened:
        rows = [asdict(day) for day in opened.backtest(days)]
    print_rows(rows, _DAYS, as_json=as_json)
