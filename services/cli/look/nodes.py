"""`ffrtmp nodes`: who is there, and what each can do."""

import click

from services.cli.invocation import Exit, Fleet, Invocation, output_option, pass_invocation
from services.cli.look.query import Row, ask
from services.cli.output import complain, show_json, show_table, styled
from services.clock import SystemClock
from tui import present

_COLUMNS = (
    *("node_id", "status", "schedulable", "cordoned", "draining", "epoch", "slots", "free"),
    *("running", "capabilities", "hostname", "cpu_model", "cpu_threads", "memory_bytes"),
    *("disk_bytes", "gpus", "ffmpeg", "address", "worker_version", "registered_at", "last_seen"),
    *("cpu_percent", "memory_free_bytes", "disk_free_bytes"),
    "epoch_ms(last_seen) AS seen_ms",
)
_QUESTION = f"SELECT {', '.join(_COLUMNS)} FROM nodes"  # noqa: S608 - constants
_RUNNING_MAX = 100


@click.group()
def nodes() -> None:
    """List and describe nodes."""


@nodes.command("list")
@output_option
@pass_invocation
def list_nodes(invocation: Invocation, /) -> int:
    """List the nodes."""

    async def work(fleet: Fleet) -> int:
        rows = await ask(fleet, f"{_QUESTION} ORDER BY node_id")
        if invocation.json:
            show_json(rows)
            return Exit.OK
        now_ms = SystemClock().now().timestamp() * 1000
        columns = ("node", "state", ">running", ">slots", ">cpu", "gpus", "ffmpeg", ">seen")
        show_table(
            columns,
            [
                (
                    row["node_id"],
                    styled(present.node_look(_state(row))),
                    row["slots"] - row["free"],
                    row["slots"],
                    present.percent(row["cpu_percent"]),
                    ", ".join(row["gpus"]),
                    row["ffmpeg"],
                    _seen(row, now_ms),
                )
                for row in rows
            ],
            spare=("ffmpeg", "gpus"),
        )
        return Exit.OK

    return invocation.work(work)


@nodes.command()
@click.argument("node_id")
@output_option
@pass_invocation
def describe(invocation: Invocation, /, *, node_id: str) -> int:
    """Show one node: its machine, its capabilities and what runs on it."""

    async def work(fleet: Fleet) -> int:
        rows = await ask(fleet, f"{_QUESTION} WHERE node_id = ?", (node_id,))
        if not rows:
            complain(f"no node {node_id!r}; `ffrtmp nodes list` shows which are there")
            return Exit.FAILED
        running = await ask(
            fleet,
            "SELECT job_id, attempt, status, progress_percent FROM jobs "
            "WHERE node = ? AND ended_at IS NULL ORDER BY first_seq LIMIT ?",
            (node_id, _RUNNING_MAX),
        )
        if invocation.json:
            show_json({**rows[0], "jobs": running})
        else:
            _show_node(rows[0], running)
        return Exit.OK

    return invocation.work(work)


def _state(row: Row) -> str:
    return str(row["status"])


def _seen(row: Row, now_ms: float) -> str:
    seen_ms = row["seen_ms"]
    return present.UNKNOWN if seen_ms is None else present.duration((now_ms - seen_ms) / 1000)


def _show_node(row: Row, running: list[Row]) -> None:
    notes = [word for word in ("cordoned", "draining") if row[word]]
    show_table(
        ("", ""),
        [
            ("node", row["node_id"]),
            ("state", styled(present.node_look(_state(row)))),
            *((("", ", ".join(notes)),) if notes else ()),
            ("slots", f"{row['free']} of {row['slots']} free"),
            ("host", f"{row['hostname']}  {row['cpu_threads']} x {row['cpu_model']}"),
            ("memory", f"{_of(row, 'memory')}"),
            ("disk", f"{_of(row, 'disk')}"),
            ("gpus", ", ".join(row["gpus"]) or "none"),
            ("ffmpeg", row["ffmpeg"]),
            ("worker", f"{row['worker_version']}, start {row['epoch']}"),
            ("can", ", ".join(row["capabilities"])),
        ],
    )
    if running:
        click.echo()
        show_table(
            ("job", ">attempt", "state", ">done"),
            [
                (
                    job["job_id"],
                    job["attempt"],
                    styled(present.job_look(str(job["status"]))),
                    present.percent(job["progress_percent"]),
                )
                for job in running
            ],
        )


def _of(row: Row, what: str) -> str:
    free, total = row[f"{what}_free_bytes"], row[f"{what}_bytes"]
    return f"{present.size(free)} free of {present.size(total)}"
