"""Settings of every service: one frozen struct each, units in the names, reasons beside the values.

A setting comes from, in this order: a command-line option, an environment variable `FFRTMP_<NAME>`
(`FFRTMP_SLOTS=4`), a TOML file, the default here. It is read and validated once, by the command
line.
"""

import os
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from events.ids import NodeIdField

PositiveSeconds = Annotated[float, Meta(gt=0)]


class WorkerSettings(Struct, frozen=True, kw_only=True):
    """How one worker runs."""

    node_id: NodeIdField
    slots: Annotated[int, Meta(ge=1, le=4096)] = max(1, (os.cpu_count() or 1) // 2)
    """Attempts at once; one for two CPU threads, for encoders use several threads each."""
    work_dir: Path
    """Holds the node's epoch and temporary files."""
    media_root: Path
    """Inputs given as relative paths are below it; no path leads out of it."""
    output_root: Path
    """Outputs are below it; no path leads out of it."""
    labels: dict[str, str] = {}
    heartbeat_s: PositiveSeconds = 5.0
    """A third of the time after which a silent node is given up."""
    progress_s: PositiveSeconds = 1.0
    """Shortest time between two progress reports of one attempt."""
    drain_s: PositiveSeconds = 10.0
    """How long attempts may finish after SIGTERM before they are handed back."""


class SchedulerSettings(Struct, frozen=True, kw_only=True):
    """How one scheduler decides."""

    aging_s_per_weight: PositiveSeconds = 60.0
    """A job of weight w is treated as if submitted w times this earlier: live/high 30 minutes,
    batch/low one. So nobody is overtaken by jobs submitted more than 29 minutes after it."""
    repeat_s: PositiveSeconds = 2.0
    """After this an assignment that was not started is told to its node again."""
    assign_s: PositiveSeconds = 60.0
    """After this an assignment that was not started is given up as lost."""
    node_dead_s: PositiveSeconds = 15.0
    """Three missed heartbeats of 5 s: the node is lost."""
    unschedulable_s: PositiveSeconds = 120.0
    """A job that no registered node could ever run is rejected after this."""
    retry_base_s: PositiveSeconds = 5.0
    retry_max_s: PositiveSeconds = 300.0
    """Back-off is min(base * 2^(failures - 1), max), with jitter derived from the job's id."""
    crashes_max: Annotated[int, Meta(ge=1)] = 5
    """A job that took this many attempts down with their nodes is poison and fails."""


class ProjectorSettings(Struct, frozen=True, kw_only=True):
    """How one projector keeps its file."""

    database: Path
    """Its own DuckDB file, in a directory of mode 0700; no other process can open it."""
    batch_events_max: Annotated[int, Meta(ge=1)] = 5_000
    batch_s: PositiveSeconds = 0.1
    """Events wait at most this long for company before they are written."""
    memory_bytes_max: Annotated[int, Meta(ge=128 * 2**20)] = 2 * 2**30
    query_s_max: PositiveSeconds = 10.0
    query_rows_max: Annotated[int, Meta(ge=1)] = 10_000
    query_bytes_max: Annotated[int, Meta(ge=1024)] = 8 * 2**20
    query_memory_bytes_max: Annotated[int, Meta(ge=16 * 2**20)] = 512 * 2**20
    queries_max: Annotated[int, Meta(ge=1)] = 4
    """Queries at once; further ones wait."""
