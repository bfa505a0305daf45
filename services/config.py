"""Settings of every service: one frozen struct each, units in the names, reasons beside the values.

A setting comes from, in this order: a command-line option, an environment variable `FFRTMP_<NAME>`
(`FFRTMP_SLOTS=4`), a TOML file, the default here. It is read and validated once, by the command
line.
"""

import os
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from events.cluster import PolicyKind
from events.ids import NodeIdField

PositiveSeconds = Annotated[float, Meta(gt=0)]


class Timeouts(Struct, frozen=True, kw_only=True):
    """When something silent is given up: every time-out of the fleet, the same for all services."""

    heartbeat_s: PositiveSeconds = 5.0
    """A third of the time after which a silent node is given up."""
    node_dead_s: PositiveSeconds = 15.0
    """Three missed heartbeats: the node is lost, its attempts go elsewhere. (60, 90 and 120 are
    what other systems of this kind use; they cost that much of every attempt a dead node had.)"""
    disconnect_s: PositiveSeconds = 1.5
    """A node whose connection the server has seen go has this long to come back before it is lost:
    a client reconnects within 0.1 s to 0.5 s."""
    assign_s: PositiveSeconds = 60.0
    """After this an assignment that was not started is given up as lost."""
    repeat_s: PositiveSeconds = 2.0
    """After this what a node was told and has not acted on is told again."""
    stall_s: PositiveSeconds = 60.0
    """An attempt whose `out_time` has not advanced for this long, pauses not counted, is given up:
    the slowest encoders take seconds for a frame, not minutes."""
    timeout_factor: Annotated[float, Meta(ge=1)] = 20.0
    """An attempt without a time-out of its own may take this many times the length of what it
    makes; an encode at a twentieth of real time is slow, but alive."""
    timeout_s_min: PositiveSeconds = 600.0
    """... and at least this; where the length is not known there is no time-out but the stall."""
    timeout_margin_s: PositiveSeconds = 30.0
    """A worker ends what has run out of time; this much later the scheduler gives it up without."""
    unschedulable_s: PositiveSeconds = 120.0
    """A job that no registered node could ever run is rejected after this."""
    pending_s: PositiveSeconds = 86_400.0
    """A job that waits for a job nobody has submitted fails after this."""


class WorkerSettings(Timeouts, frozen=True, kw_only=True):
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
    encoder_sessions: Annotated[int, Meta(ge=0, le=1024)] = 8
    """Hardware encodes at once on each GPU; what drivers of consumer cards allow."""
    disk_free_bytes_min: Annotated[int, Meta(ge=0)] = 2 * 2**30
    """With less free where it works or writes, the worker takes nothing new."""
    spool_bytes_max: Annotated[int, Meta(ge=0)] = 256 * 2**20
    """Output of processes kept on disk while the log is away; of more, the oldest goes."""
    progress_s: PositiveSeconds = 1.0
    """Shortest time between two progress reports of one attempt."""
    drain_s: PositiveSeconds = 10.0
    """How long attempts may finish after SIGTERM before they are handed back."""


class SchedulerSettings(Timeouts, frozen=True, kw_only=True):
    """How one scheduler decides."""

    aging_s_per_weight: PositiveSeconds = 60.0
    """A job of weight w is treated as if submitted w times this earlier: live/high 30 minutes,
    batch/low one. So nobody is overtaken by jobs submitted more than 29 minutes after it."""
    policy: PolicyKind = PolicyKind.WEIGHTED
    """Until a request sets another at run time."""
    lease_s: PositiveSeconds = 2.0
    """A leader that has not renewed its lease for this long is deposed; it renews four times as
    often."""
    breaker_s: PositiveSeconds = 60.0
    """How long a node whose attempts fail far more often than others' gets nothing; then it is
    tried with one attempt at a time."""
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
    """A projector that has everything looks for new events this much later, so that many cost it
    and the log no more than one: how far the tables are behind an idle fleet."""
    memory_bytes_max: Annotated[int, Meta(ge=128 * 2**20)] = 2 * 2**30
    query_s_max: PositiveSeconds = 10.0
    query_rows_max: Annotated[int, Meta(ge=1)] = 10_000
    query_bytes_max: Annotated[int, Meta(ge=1024)] = 8 * 2**20
    query_memory_bytes_max: Annotated[int, Meta(ge=16 * 2**20)] = 512 * 2**20
    queries_max: Annotated[int, Meta(ge=1)] = 4
    """Queries at once; further ones wait."""
