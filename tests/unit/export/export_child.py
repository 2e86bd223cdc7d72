"""An export in a process of its own that kills itself at a step.

Steps are statements of the database, syncs and renames, in the order of the run.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from export.compaction import compact
from export.exporter import Exporter
from export.increment import Limits
from export.manifest import ExportFolder

_left = [0]
_steps = [0]


def _step() -> None:
    _steps[0] += 1
    _left[0] -= 1
    if _left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def _killing(call: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        _step()
        result = call(*args, **kwargs)
        _step()
        return result

    return run


def run(url: str, path: str, step: int) -> None:
    """Export and compact; SIGKILL at the given step, 0 for never."""
    _left[0] = step
    with (
        psycopg.connect(url) as conn,
        psycopg.connect(url) as reading,
        ExportFolder(Path(path)) as folder,
    ):
        Exporter(folder, conn, reading, limits=Limits(records=3)).run()
        compact(folder)


def main() -> None:
    """Read lines `URL FOLDER STEP`; print how each run ended, and its steps."""
    psycopg.Connection.execute = _killing(psycopg.Connection.execute)  # type: ignore[method-assign]
    os.fsync = _killing(os.fsync)
    Path.replace = _killing(Path.replace)  # type: ignore[method-assign]
    Path.unlink = _killing(Path.unlink)  # type: ignore[method-assign]
    for line in sys.stdin:
        url, path, step = line.split()
        # Imports are done once; no thread runs yet.
        child = os.fork()
        if not child:
            try:
                run(url, path, int(step))
                Path(path + ".steps").write_text(str(_steps[0]))
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
