"""The progress of a move, in a file beside the copy of the account.

It holds no secret. Most steps ask the servers and the directory if they are done.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from service.operator_errors import ServiceError

FILE: Final = "move.json"
_VERSION: Final = 1


@dataclass(slots=True)
class MoveState:
    """A move of an account; `imported` is the root of the repo that arrived.

    `source` is the server that it leaves, empty if that is gone.
    """

    did: str
    source: str
    target: str
    handle: str
    imported: str = ""
    finished: bool = False

    def store(self, folder: Path) -> None:
        """Replace the file at once."""
        part = folder / f".{FILE}"
        with part.open("w") as file:
            json.dump({"version": _VERSION, **asdict(self)}, file)
            file.flush()
            os.fsync(file.fileno())
        part.rename(folder / FILE)


def begin(folder: Path, wanted: MoveState) -> MoveState:
    """Return the state of a move that goes on, or of a new one. Raises ServiceError.

    A move that goes on keeps its source: the identity may name the target already.
    """
    path = folder / FILE
    try:
        values = json.loads(path.read_text())
        if values.pop("version") != _VERSION:
            raise ServiceError(f"{path} is of another version of Bigworld")
        state = MoveState(**values)
    except FileNotFoundError:
        return wanted
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ServiceError(f"{path} is damaged: {error}") from error
    if _goal(state) != _goal(wanted):
        raise ServiceError(
            f"{path} is of the move of {state.did} to {state.target} as"
            f" {state.handle}: go on with that, or delete the file"
        )
    return state


def _goal(state: MoveState) -> tuple[str, str, str, bool]:
    return state.did, state.target, state.handle, bool(state.source)
