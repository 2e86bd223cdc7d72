"""The registration of methods."""

from __future__ import annotations

from pathlib import Path

import appview
from appview.server import METHODS, module_of

ROOT = Path(appview.__file__).parents[1]


def test_every_method_file_is_registered() -> None:
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in {module_of(nsid).split(".")[1] for nsid in METHODS}
        for path in (ROOT / "appview" / package).rglob("*.py")
        if path.stem != "__init__"
    }
    assert files == {module_of(nsid) for nsid in METHODS}
