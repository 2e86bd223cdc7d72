"""Size of rows on disk, including indexes."""

from __future__ import annotations

from typing import Final

from bench.index import Index
from bench.metric import Metric

_LIKES: Final = "link_like"
_RECORDS: Final = "record"

# A partitioned table has no size of its own: it is the sum of its leaves.
_SIZES: Final = """
    SELECT coalesce(sum(pg_total_relation_size(relid)), 0)::float8
    FROM pg_partition_tree(%s::regclass) WHERE isleaf
"""


def measure_disk(index: Index, bench: str) -> list[Metric]:
    """Measure the bytes of a like edge and of a record; the floor is the bare value."""
    likes = index.ask(f"SELECT count(*) FROM {_LIKES}")
    records = index.ask(f"SELECT count(*) FROM {_RECORDS}")
    edge = index.ask(f"SELECT avg(pg_column_size(l.*))::float8 FROM {_LIKES} l")
    value = index.ask(f"SELECT avg(octet_length(value))::float8 FROM {_RECORDS}")
    return [
        Metric(
            bench, "bytes_per_link", index.ask(_SIZES, _LIKES) / likes, "bytes", edge
        ),
        Metric(
            bench,
            "bytes_per_record",
            index.ask(_SIZES, _RECORDS) / records,
            "bytes",
            value,
        ),
    ]
