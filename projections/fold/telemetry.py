"""Telemetry: reports as rows of their own. What they change of jobs and nodes is elsewhere."""

import msgspec

from events.telemetry import Heartbeat, Progress
from projections.fold.rows import Micros, Row, capped, capped_or_none


def heartbeat_row(seq: int, at: Micros, node_id: str, heartbeat: Heartbeat) -> Row:
    """Return the row of `HEARTBEAT_COLUMNS`."""
    return (
        seq,
        at,
        node_id,
        capped(heartbeat.epoch),
        capped(heartbeat.running),
        capped(heartbeat.free),
        heartbeat.cpu_percent,
        capped(heartbeat.memory_free_bytes),
        capped(heartbeat.disk_free_bytes),
        msgspec.json.encode(heartbeat.gpus).decode(),
    )


def progress_row(seq: int, at: Micros, job_id: str, progress: Progress) -> Row:
    """Return the row of `PROGRESS_COLUMNS`."""
    return (
        seq,
        at,
        job_id,
        capped(progress.attempt),
        progress.node,
        progress.percent,
        progress.out_time_s,
        capped(progress.frame),
        progress.fps,
        progress.speed,
        progress.bitrate_bps,
        capped_or_none(progress.size_bytes),
        progress.eta_s,
        capped(progress.dropped),
    )
