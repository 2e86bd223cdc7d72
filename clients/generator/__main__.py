"""Write both clients."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from clients.generator.interface import Interface, read_interface
from clients.generator.python_source import write_python
from clients.generator.typescript_source import write_typescript

_FOLDER: Final = Path(__file__).resolve().parents[1]


def write_clients(interface: Interface) -> dict[Path, str]:
    """Return the text of each generated file, formatted as `check` wants it."""
    return {
        _FOLDER / "python/bigworld_client/methods.py": _format(write_python(interface)),
        _FOLDER / "typescript/methods.ts": write_typescript(interface),
    }


def _format(text: str) -> str:
    command = [sys.executable, "-m", "ruff", "format", "-"]
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, check=True
    )
    return done.stdout


if __name__ == "__main__":
    for path, text in write_clients(read_interface()).items():
        path.write_text(text)
