"""The reference servers with the reference AppView, in one Node process."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any, Self

from reference_network import FOLDER, NODE


class Beside:
    """Directory, two PDSes, AppView and feed generator on ports from `base` + 5 on.

    The first PDS proxies to the AppView, the second to us.
    """

    def __init__(self, base: int, postgres: str) -> None:
        options = {
            "plc": base + 5,
            "pds": [base + 6, base + 7],
            "appview": base + 8,
            "ours": {
                "url": f"http://localhost:{base}",
                "did": f"did:web:localhost%3A{base}",
            },
            "postgres": postgres,
        }
        self._process = subprocess.Popen(
            [str(NODE), str(FOLDER / "beside.mjs"), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=FOLDER,
            env={**os.environ, "LOG_ENABLED": "false"},
        )
        self.endpoints: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.endpoints = self._line()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def ask(self, **request: Any) -> Any:
        """Send a request of `beside.mjs`; return its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the reference servers ended"
        answer = json.loads(line)
        failed = isinstance(answer, dict) and "error" in answer
        assert not failed, answer
        return answer
