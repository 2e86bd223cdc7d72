"""Write the reference pages from the code: `make docs`.

Each function returns one page of docs/reference. test_reference_pages.py fails when a
page on disk differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

import typer.main
from metric_sources import find_metrics
from mutant import THREATS
from mutant_catalog import MUTANTS
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from schema_sources import find_tables
from served_methods import Served, pds_methods, provider_methods

from analytics.view_catalog import VIEWS
from service.cli.app import app
from service.cli.groups import OLD_NAMES
from service.monitoring.alarms import EXPLANATIONS
from service.runtime.config import Config

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"
MAX_CELL: Final = 150
_NOTE: Final = "<!-- Generated from the code by `make docs`. Do not edit. -->\n"


def page(title: str, intro: str, *parts: str) -> str:
    return "\n".join([f"# {title}\n", _NOTE, intro + "\n", *parts])


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    lines = [names, ["---"] * len(names), *(map(cell, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def cell(text: str) -> str:
    """Return a text as it may stand in a table cell."""
    text = " ".join(text.split()).replace("|", "\\|")
    if len(text) <= MAX_CELL:
        return text
    kept = text[:MAX_CELL]
    for mark in (". ", "; ", ": ", ", ", " "):
        if mark in kept[40:]:
            return kept.rpartition(mark)[0].rstrip(".,;:")
    return kept


def code(text: object) -> str:
    return f"`{text}`"


# --- commands -----------------------------------------------------------------------


def cli_page() -> str:
    root: Any = typer.main.get_command(app)
    groups = list(walk_commands("", root))
    overview = table(
        ("command", "effect"),
        (
            (f"[`{name}`](#{name.replace(' ', '-')})", brief(command))
            for name, command in groups
        ),
    )
    return page(
        "Commands",
        "Every command has `--help`. Exit codes: 0 for success, 1 for a failure that "
        "the last line names, 2 for a wrong\nsetting or usage. An account is a DID or "
        "a handle, which is resolved in the index, then in the network. Commands find\n"
        "their home and `bigworld.toml` from the checkout, in any current directory. "
        "Beside a running `up` they use its\nsettings. Only `up` and the servers "
        "create a database.",
        overview,
        "Former names work until the next release:\n",
        table(
            ("former", "name"),
            ((code(old), code(new)) for old, new in OLD_NAMES.items()),
        ),
        *(describe_command(name, command) for name, command in groups),
    )


def walk_commands(prefix: str, group: Any) -> Iterator[tuple[str, Any]]:
    for name, command in sorted(group.commands.items()):
        if getattr(command, "hidden", False):
            continue
        # A group that is loaded on demand has the methods of the real one.
        command = command.make_context.__self__
        yield f"{prefix}{name}", command
        if hasattr(command, "commands"):
            yield from walk_commands(f"{prefix}{name} ", command)


def brief(command: Any) -> str:
    return str(command.help).strip().partition("\n\n")[0]


def describe_command(name: str, command: Any) -> str:
    rest = [" ".join(part.split()) for part in str(command.help).split("\n\n")]
    rows = []
    for parameter in command.params:
        if parameter.name == "help" or getattr(parameter, "hidden", False):
            continue
        rows.append(
            (
                code(spell_parameter(parameter)),
                parameter.help or "",
                spell_default(parameter),
            )
        )
    lines = [f"## {name}\n", *(f"{wrap(part)}\n" for part in rest)]
    if rows:
        lines.append(table(("argument or option", "meaning", "default"), rows))
    return "\n".join(lines)


def spell_parameter(parameter: Any) -> str:
    kind = parameter.type_descriptor.annotation
    is_option = parameter.opts[0].startswith("-")
    name = parameter.opts[0] if is_option else parameter.name.upper()
    choices = enum_values(kind)
    if getattr(parameter, "is_flag", False):
        return name
    if choices:
        value = "|".join(choices)
        return f"{name} {value}" if is_option else value
    if is_option:
        return f"{name} {parameter.metavar or type_name(kind)}"
    return f"{name}…" if parameter.nargs == -1 else name


def enum_values(kind: Any) -> list[str]:
    for one in (kind, *get_args(kind)):
        if isinstance(one, type) and issubclass(one, Enum):
            return [str(member.value) for member in one]
    return []


def type_name(kind: Any) -> str:
    kinds = [one for one in (kind, *get_args(kind)) if isinstance(one, type)]
    kinds += [one for item in get_args(kind) for one in get_args(item)]
    names = {int: "NUMBER", float: "NUMBER", Path: "PATH", str: "TEXT"}
    return next((names[one] for one in kinds if one in names), "VALUE")


def spell_default(parameter: Any) -> str:
    default = parameter.default
    if parameter.required:
        return "required"
    if default is None or default is False or default == ():
        return ""
    return code(default.value if isinstance(default, Enum) else default)


# --- settings -----------------------------------------------------------------------

_SECTIONS: Final = {
    "home": "Places",
    "audiences": "Service tokens and development",
    "pds_public_url": "PDS",
    "worker_threads": "Worker and servers of your own",
    "trusted_proxies": "Clients",
    "admin_password": "Operation",
    "plc_url": "PLC directory",
    "relays": "Network and scope",
    "account_cap": "Limits of the crawl",
    "shards": "Shards and event log",
    "contact": "Network and scope",
}
"""The first setting of each section, in the order of the fields."""


def settings_page() -> str:
    sections: dict[str, list[tuple[str, str, str]]] = {}
    section = ""
    for name, field in Config.model_fields.items():
        section = _SECTIONS.get(name, section)
        row = (code(f"BIGWORLD_{name.upper()}"), setting_default(name, field))
        sections.setdefault(section, []).append((*row, field.description or ""))
    return page(
        "Settings",
        "A setting `x` is `BIGWORLD_X` in the environment and `x` in `bigworld.toml`. "
        "That file is in the checkout, or where\n`BIGWORLD_CONFIG` points. Order: "
        "command-line options, environment, file, default. An unknown name is "
        "refused.\nLists are separated by commas in the environment. `DATABASE_URL` "
        "and `BROKER_URL` are read too.",
        *(
            f"## {title}\n\n" + table(("setting", "default", "meaning"), rows)
            for title, rows in sections.items()
        ),
    )


def setting_default(name: str, field: FieldInfo) -> str:
    default = field.default
    if name == "home":
        return "`var` in the checkout"
    if default in (None, (), PydanticUndefined):
        return choices_of(field.annotation)
    if isinstance(default, tuple):
        return ", ".join(map(code, default))
    if isinstance(default, float) and default.is_integer():
        default = int(default)
    shown = code(str(default).lower() if isinstance(default, bool) else default)
    others = [value for value in literal_values(field.annotation) if value != default]
    return f"{shown}, or {', '.join(map(code, others))}" if others else shown


def choices_of(kind: Any) -> str:
    values = literal_values(kind)
    return f"none, or {', '.join(map(code, values))}" if values else "none"


def literal_values(kind: Any) -> list[str]:
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    if get_origin(kind) in (Union, UnionType):
        return [value for one in get_args(kind) for value in literal_values(one)]
    return []


# --- methods, metrics, alarms, tables, mutants ----------------------------------------


def methods_page() -> str:
    return page(
        "Methods",
        "The XRPC methods that this version serves, with the first sentence of their "
        "lexicons. Each server shows\nparameters, bodies and errors at `/docs`. "
        "[Replies](replies.md) and [service tokens](service-tokens.md) have the "
        "rules.",
        "## The provider\n",
        methods_table(provider_methods()),
        "## The Personal Data Server\n",
        "It forwards other methods to the service that `atproto-proxy` names, or to "
        "the account's own choice, or to the\nprovider.\n",
        methods_table(pds_methods()),
    )


def methods_table(methods: list[Served]) -> str:
    rows = ((code(m.nsid), m.kind, m.auth, first_sentence(m.text)) for m in methods)
    return table(("method", "kind", "token", "description"), rows)


def first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".").replace("<", "&lt;")


def metrics_page() -> str:
    rows = (
        (code(m.name), m.kind, ", ".join(map(code, m.labels)), m.text)
        for m in find_metrics()
    )
    return page(
        "Metrics",
        "`/metrics` serves these in the text format of Prometheus. Every label value "
        "comes from a closed set.",
        table(("metric", "type", "labels", "meaning"), rows),
    )


def alarms_page() -> str:
    parts = [
        f"## {kind.value}\n\n{wrap(one.means)}\n\n**Do:** {wrap(one.advice)}\n"
        for kind, one in EXPLANATIONS.items()
    ]
    return page(
        "Alarms",
        "The status page, `bigworld doctor` and the metric `bigworld_alarms` show "
        "active alarms. Each is a rule over one\nsnapshot of the database, so it ends "
        "by itself when its cause ends.",
        *parts,
    )


def schema_page() -> str:
    parts = []
    for database, tables in find_tables().items():
        parts.append(f"## Database {database}\n")
        for one in tables:
            parts.append(f"### {code(one.name)}\n")
            if one.note:
                parts.append(f"{wrap(one.note)}\n")
            rows = (
                (code(c.name), c.kind, "yes" if c.nullable else "", c.note)
                for c in one.columns
            )
            parts.append(table(("column", "type", "null", "note"), rows))
            key = ", ".join(map(code, one.key)) or "none"
            parts.append(f"Primary key: {key}.\n")
    return page(
        "Schema",
        "The tables of all databases, as the migrations create them. A record's "
        "address is `(actor, collection, rkey)`.\nA TID record key is its own 63-bit "
        "number; any other key is a negative ID of `rkey`.",
        *parts,
    )


def views_page() -> str:
    parts = []
    for name, view in VIEWS.items():
        parts.append(f"## {code(name)}\n\n{view.note}\n")
        rows = ((code(column), note) for column, note in view.columns.items())
        parts.append(table(("column", "content"), rows))
    return page(
        "Views for SQL",
        "Views of the schema `analytics`, read with `bigworld sql`. "
        "[Ask the network](../ask-the-network.md) has examples.",
        *parts,
    )


def mutants_page() -> str:
    parts = []
    for threat, title in THREATS.items():
        mutants = [mutant for mutant in MUTANTS if mutant.threat == threat]
        rows = []
        for mutant in mutants:
            files = {Path(test.partition("::")[0]).name for test in mutant.tests}
            rows.append(
                (code(mutant.name), code(mutant.file), "<br>".join(sorted(files)))
            )
        parts.append(
            f"## {title}\n\n`./bigworld test --mutants {threat}`\n\n"
            + table(("mutant", "file", "tests that must fail"), rows)
        )
    return page(
        "Mutants",
        f"{len(MUTANTS)} planted bugs, by threat. "
        "[Reliability](../explanation/reliability.md) explains them.",
        *parts,
    )


def decisions_page() -> str:
    rows = []
    for path in sorted((FOLDER.parent / "adr").glob("[0-9]*.md")):
        number, _, title = path.read_text().partition("\n")[0][2:].partition(". ")
        rows.append((number, f"[{title}]({path.name})"))
    return page(
        "Decisions",
        "Each record has the context, the decision, the alternatives and the "
        "consequence.",
        table(("number", "decision"), rows),
    )


def wrap(text: str) -> str:
    """Return a text without the line breaks of the code."""
    return " ".join(text.split())


PAGES: Final[dict[str, Callable[[], str]]] = {
    "cli.md": cli_page,
    "settings.md": settings_page,
    "methods.md": methods_page,
    "metrics.md": metrics_page,
    "alarms.md": alarms_page,
    "schema.md": schema_page,
    "analytics.md": views_page,
    "mutants.md": mutants_page,
    "../adr/README.md": decisions_page,
}
"""File name in docs/reference -> the function that makes the page."""


def main() -> None:
    """Write every page."""
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make())


if __name__ == "__main__":
    main()
