"""Building blocks of the command groups: `bigworld host …`, `bigworld db …`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any, Final

import typer
import typer.main
from typer.core import TyperGroup

from service.runtime.config import Config

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Limit = Annotated[int, typer.Option(min=1, help="Maximum number of results.")]
Account = Annotated[str, typer.Argument(help="The account, by DID or handle.")]
Accounts = Annotated[
    list[str] | None, typer.Argument(help="Only these accounts, by DID or handle.")
]

# Group -> its line in the list of commands. The group `x` is service.cli.x:app,
# or that of _MODULES.
GROUPS: Final = {
    "bench": "Measure parts of Bigworld on this machine.",
    "db": "Back up, restore or migrate the databases.",
    "repo": "List, export, audit or resync repos.",
    "host": "List, add, remove, ban, limit or recrawl hosts.",
    "scope": "Show, change or estimate what is indexed.",
    "search": "Search through the running provider, or rebuild its index.",
    "feed": "Check, preview and explain feeds, list them, or read one.",
    "export": "Write the index to a folder of open files, and check them.",
    "lexicon": "List, add or look up lexicons of other records.",
    "did": "Create or update the provider's did:plc.",
    "account": "Keep, back up, move or rescue an account.",
    "private": "Export or delete the private state of an account.",
    "takedown": "Hide accounts, records or blobs, or show them again.",
    "label": "Issue labels, and read reports.",
}

_MODULES: Final = {
    "bench": "bench.command",
    "takedown": "service.cli.moderation.takedown",
    "label": "service.cli.moderation.label",
    "did": "service.did_command",
    "private": "service.cli.accounts.private",
    "account": "service.cli.accounts.account",
}

# Old words -> new words. The first old word leads, the others stand anywhere after it.
# Old names keep working for one release.
OLD_NAMES: Final = {
    "repos --resync": "repo resync",
    "repos": "repo list",
    "hosts": "host",
    "feeds": "feed",
    "audit": "repo audit",
    "rebuild counts": "db recount",
    "rebuild search": "search rebuild",
    "backup": "db backup",
    "restore": "db restore",
}


def read_config() -> Config:
    """Read the settings for a command that prints a result and exits."""
    from service.cli.running import read_beside
    from service.runtime import logs

    config = read_beside()
    logs.configure(form=config.log_format, level="warning")
    return config


def translate_old_name(words: list[str]) -> list[str]:
    """Return the command line with the new name, and note an old one on stderr."""
    for old, new in OLD_NAMES.items():
        first, *others = old.split()
        if words[:1] == [first] and set(others) <= set(words):
            print(f"bigworld: `{old}` is now `{new}`", file=sys.stderr)
            return [*new.split(), *(w for w in words[1:] if w not in others)]
    return words


class RootGroup(TyperGroup):
    """The `bigworld` command: loads a command group only when it is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, line in GROUPS.items():
            self.commands[name] = LazyGroup(name=name, help=line)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, translate_old_name(args))


class LazyGroup(TyperGroup):
    """A command group whose module is imported when the group is called."""

    def __getattribute__(self, name: str) -> Any:
        # Also readers of the commands, such as the generator of the docs, load them.
        if name in ("commands", "make_context"):
            module = import_module(
                _MODULES.get(str(self.name), f"service.cli.{self.name}")
            )
            return getattr(typer.main.get_command(module.app), name)
        return super().__getattribute__(name)


class DefaultGroup(TyperGroup):
    """A group that runs one of its commands when none is named."""

    # The command without any argument, and the one for an argument that names none.
    bare: str | None = None
    free: str | None = None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = args and args[0] in {*self.commands, "-h", "--help"}
        if not named:
            if self.free and (texts := [w for w in args if self._is_text(w)]):
                # `-word` is a part of a query here, and no option.
                args = [*(w for w in args if w not in texts), "--", *texts]
            is_free = any(not word.startswith("-") or word == "--" for word in args)
            default = self.free if is_free and self.free else self.bare
            if default and (self.free or not args or args[0].startswith("-")):
                args = [default, *args]
        return super().parse_args(ctx, args)

    def _is_text(self, word: str) -> bool:
        """Return True for a word like `-cats`, which is no option of the command."""
        command = self.commands[str(self.free)]
        options = {name for p in command.params for name in p.opts}
        return word[:1] == "-" and word[1:2] not in ("", "-") and word not in options


def make_group(
    name: str, text: str = "", *, bare: str | None = None, free: str | None = None
) -> typer.Typer:
    """Return an empty command group; see DefaultGroup for `bare` and `free`."""
    return typer.Typer(
        cls=type("Group", (DefaultGroup,), {"bare": bare, "free": free}),
        help=f"{GROUPS[name]}\n\n{text}",
        no_args_is_help=bare is None,
        add_completion=False,
        rich_markup_mode=None,
    )
