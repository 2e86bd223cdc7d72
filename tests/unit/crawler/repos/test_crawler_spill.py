from __future__ import annotations

import random
import threading

import pytest

from crawler.repos.spill import BlockSpill


def test_a_spill_is_a_mapping() -> None:
    draw = random.Random(1)
    model: dict[bytes, bytes] = {}
    with BlockSpill() as spill:
        for _ in range(3_000):
            cid = draw.randbytes(1)
            match draw.randrange(3):
                case 0:
                    model[cid] = spill[cid] = draw.randbytes(draw.randrange(100))
                case 1:
                    assert spill.get(cid) == model.get(cid)
                    assert (cid in spill) == (cid in model)
                case 2:
                    assert spill.pop(cid, None) == model.pop(cid, None)
            assert len(spill) == len(model)
        assert dict(spill) == model
        with pytest.raises(KeyError):
            spill[b"no"]
        with pytest.raises(KeyError):
            del spill[b"no"]


def test_a_spill_may_change_threads() -> None:
    with BlockSpill() as spill:
        thread = threading.Thread(target=lambda: spill.update({b"a": b"1"}))
        thread.start()
        thread.join()
        assert spill[b"a"] == b"1"
