"""A process that has imported the command line and forks for each command.

A command starts in a tenth of the processor time that a new interpreter takes. The
client of one command is CLIENT, a script without imports of ours: it sends its
arguments, environment and open files over a Unix socket, and exits as the command did.
"""

from __future__ import annotations

import json
import os
import pkgutil
import socket
import sys
import tempfile
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final

from service import cli
from service.cli import app

CLIENT: Final = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
    stream.connect(sys.argv[1])
    call = {"argv": sys.argv[2:], "cwd": os.getcwd(), "env": dict(os.environ)}
    socket.send_fds(stream, [b"x"], [0, 1, 2])
    stream.sendall(json.dumps(call).encode() + b"\\n")
    sys.exit(int(stream.makefile().read() or 70))
"""


def shell_function(path: Path) -> str:
    """Return a definition by which `./bigworld` in bash is a call of the server."""
    script = path.with_suffix(".py")
    script.write_text(CLIENT)
    return f'function ./bigworld {{ {sys.executable} -S -E {script} {path} "$@"; }}\n'


def serve(path: str) -> None:
    """Run commands until killed; each in a child that nobody has to wait for."""
    for module in pkgutil.iter_modules(cli.__path__, "service.cli."):
        import_module(module.name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(16)
        print("ready", flush=True)
        while True:
            stream, _ = listener.accept()
            with stream:
                if os.fork() == 0:
                    listener.close()
                    _answer(stream)
                    os._exit(0)
            with suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)


def _answer(stream: socket.socket) -> None:
    """Run one command in a child of this process and send its exit code."""
    _, files, _, _ = socket.recv_fds(stream, 1, 3)
    call = json.loads(stream.makefile().readline())
    child = os.fork()
    if child == 0:
        stream.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.chdir(call["cwd"])
        os.environ.clear()
        os.environ.update(call["env"])
        tempfile.tempdir = None
        sys.argv = ["bigworld", *call["argv"]]
        os._exit(_run())
    _, status = os.waitpid(child, 0)
    stream.sendall(str(os.waitstatus_to_exitcode(status) & 0xFF).encode())


def _run() -> int:
    try:
        app.main()
    except SystemExit as ended:
        code = ended.code
        return code if isinstance(code, int) else int(code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
