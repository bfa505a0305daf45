"""`ffrtmp nodes`: the group, and the commands that look at nodes."""

import click

from services.cli.invocation import Exit, Fleet, Invocation, output_option, pass_invocation
from services.cli.look.query import Row, ask
from services.cli.look.standing import standing
from services.cli.operate.nodes import cordon, drain, remove, uncordon
from services.cli.output import complain, show_json, show_table, styled
from services.clock import SystemClock
from tui import present

_COLUMNS = (
    *("node_id", "status", "schedulable", "cordoned", "draining", "ordered_by", "order_reason"),
    *("reason", "refusing", "circuit", "circuit_until", "circuit_reason", "epoch", "slots"),
    *("free", "running", "capabilities", "hostname", "cpu_model", "cpu_threads", "memory_bytes"),
    *("disk_bytes", "gpus", "encoder_sessions", "ffmpeg", "address", "fingerprint"),
    *("worker_version", "registered_at", "last_seen"),
    *("cpu_percent", "memory_free_bytes", "disk_free_bytes"),
    "epoch_ms(last_seen) AS seen_ms",
    "epoch_ms(circuit_until) AS until_ms",
)
_QUESTION = f"SELECT {', '.join(_COLUMNS)} FROM nodes"  # noqa: S608 - constants
_HISTORY = """
    SELECT seq, time, change, actor, reason, payload ->> '$.epoch' AS epoch
    FROM node_changes WHERE node_id = ? ORDER BY seq DESC LIMIT ?
"""
_RUNNING_MAX = 100
HISTORY_MAX = 20
"""Changes of a node that are shown, the newest."""


@click.group()
def nodes() -> None:
    """List and describe nodes, take them out and let them back."""


for _command in (cordon, uncordon, drain, remove):
    nodes.add_command(_command)


@nodes.command("list")
@click.option("--all", "removed", is_flag=True, help="Those too that were removed.")
@output_option
@pass_invocation
def list_nodes(invocation: Invocation, /, *, removed: bool) -> int:
    """List the nodes, and what keeps work away from each."""

    async def work(fleet: Fleet) -> int:
        where = "" if removed else " WHERE status <> 'removed'"
        rows = await ask(fleet, f"{_QUESTION}{where} ORDER BY node_id")
        if invocation.json:
            show_json(rows)
            return Exit.OK
        now_ms = SystemClock().now().timestamp() * 1000
        columns = ("node", "state", ">running", ">slots", ">cpu", "gpus", "ffmpeg", ">seen", "")
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
                    "; ".join(standing(row, now_ms)),
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
    """Show one node: its machine, what it can do, what runs on it, and what became of it."""

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
        history = (await ask(fleet, _HISTORY, (node_id, HISTORY_MAX)))[::-1]
        if invocation.json:
            show_json({**rows[0], "jobs": running, "history": history})
        else:
            _show_node(rows[0])
            _show_running(running)
            _show_history(history)
        return Exit.OK

    return invocation.work(work)


def _state(row: Row) -> str:
    return str(row["status"])


def _seen(row: Row, now_ms: float) -> str:
    seen_ms = row["seen_ms"]
    return present.UNKNOWN if seen_ms is None else present.duration((now_ms - seen_ms) / 1000)


def _show_node(row: Row) -> None:
    notes = standing(row, SystemClock().now().timestamp() * 1000)
    show_table(
        ("", ""),
        [
            ("node", row["node_id"]),
            ("state", styled(present.node_look(_state(row)))),
            *(("", note) for note in notes),
            ("circuit", styled(present.circuit_look(str(row["circuit"])))),
            ("slots", f"{row['free']} of {row['slots']} free"),
            ("host", f"{row['hostname']}  {row['cpu_threads']} x {row['cpu_model']}"),
            ("memory", f"{_of(row, 'memory')}"),
            ("disk", f"{_of(row, 'disk')}"),
            ("gpus", _gpus(row)),
            ("ffmpeg", row["ffmpeg"]),
            ("worker", f"{row['worker_version']}, start {row['epoch']}"),
            ("address", row["address"] or present.UNKNOWN),
            ("fingerprint", row["fingerprint"] or present.UNKNOWN),
            ("can", ", ".join(row["capabilities"])),
        ],
    )


def _show_running(running: list[Row]) -> None:
    if not running:
        return
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


def _show_history(history: list[Row]) -> None:
    if not history:
        return
    click.echo()
    show_table(
        (">seq", "time (UTC)", "what", "by", ""),
        [
            (
                change["seq"],
                str(change["time"])[:19].replace("T", " "),
                str(change["change"]).replace("_", " "),
                change["actor"] or "",
                change["reason"] or _start(change),
            )
            for change in history
        ],
    )


def _start(change: Row) -> str:
    return f"start {change['epoch']}" if change["change"] == "registered" else ""


def _gpus(row: Row) -> str:
    names = ", ".join(row["gpus"]) or "none"
    sessions = row["encoder_sessions"]
    return f"{names}, {sessions} encodes at once each" if sessions else names


def _of(row: Row, what: str) -> str:
    free, total = row[f"{what}_free_bytes"], row[f"{what}_bytes"]
    return f"{present.size(free)} free of {present.size(total)}"
