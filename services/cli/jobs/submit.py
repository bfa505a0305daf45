"""`ffrtmp jobs submit`: one job, or many from a file, a pipe or a count."""

from typing import IO, Any

import click

from events.ids import JobId
from events.requests import SubmitJob
from events.spec import Engine, Priority, Queue
from services.cli.invocation import Exit, Fleet, Invocation, output_option, pass_invocation
from services.cli.jobs.bulk import (
    Plan,
    from_file,
    identified,
    lines_of,
    repeated,
    show_refusal,
    submit_many,
)
from services.cli.jobs.request import WrongOption, checked, payload_of
from services.cli.jobs.watch import first_of, watch_to_end
from services.cli.output import show_json

COUNT_MAX = 10_000_000
"""Most jobs of one `--count`."""


@click.command()
@click.argument("scenario", required=False)
@click.option("--scenario", "named_scenario", help="The same as the argument.")
@click.option("--input", metavar="PATH|URL|JSON", help='A file, a URL, or `{"duration_s": 5}`.')
@click.option(
    "--output-file",
    "output_files",
    multiple=True,
    metavar="PATH[,KEY=VALUE…]",
    help="An output; repeat for a ladder: `sd.mp4,size=640x360,bitrate=800k`.",
)
@click.option("--codec", help="h264, hevc, vp9 or av1.")
@click.option("--encoder", help="A named encoder, as libx264.")
@click.option("--size", metavar="WxH")
@click.option("--rate", type=float, help="Frames per second.")
@click.option("--duration", type=float, help="Seconds to encode.")
@click.option("--bitrate", help="Target, as 2500k or 4M.")
@click.option("--crf", type=int, help="Constant quality; lower is better.")
@click.option("--preset", help="Speed in the encoder's own words.")
@click.option("--audio", metavar="CODEC[:RATE]", help="aac or opus, as opus:96k.")
@click.option("--container", help="mp4, mkv or webm.")
@click.option("--engine", type=click.Choice([word.value for word in Engine]))
@click.option("--queue", type=click.Choice([word.value for word in Queue]))
@click.option("--priority", type=click.Choice([word.value for word in Priority]))
@click.option("--tenant")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE")
@click.option("--requires", multiple=True, metavar="CAPABILITY", help="As encoder:libx265, gpu.")
@click.option("--timeout", type=float, help="Seconds one attempt may run.")
@click.option("--attempts-max", type=int, help="Attempts that may fail before the job does.")
@click.option("--depends-on", multiple=True, metavar="JOB", help="Runs after it; repeat.")
@click.option("--not-before", metavar="TIME", help="Earliest start, as 2026-03-01T12:00:00Z.")
@click.option("--deadline", metavar="TIME", help="When it should be done; ranks it, ends nothing.")
@click.option("--id", "job_id", help="The job's id; the same id again is the same job.")
@click.option("--idempotency-key", help="The same key of a tenant is the same job, for ever.")
@click.option("--count", type=click.IntRange(1, COUNT_MAX), help="That many such jobs.")
@click.option("--file", "file", type=click.File("rb"), help="Jobs as JSON lines; `-` is stdin.")
@click.option("--follow", is_flag=True, help="Wait for the end, with progress.")
@output_option
@pass_invocation
def submit(
    invocation: Invocation,
    /,
    *,
    count: int | None,
    file: IO[bytes] | None,
    follow: bool,
    named_scenario: str | None,
    **options: Any,  # noqa: ANN401 - click hands over what the options above say
) -> int:
    """Submit a job: SCENARIO as 1080p30-h264, or options, or both.

    A call that got no answer may be repeated: the job has its id before it is sent. With --file or
    --count and an --id or --idempotency-key, job N gets `<key>-N`, so that a bulk submission can be
    repeated whole.
    """
    if named_scenario is not None:
        if options["scenario"] is not None:
            raise click.UsageError("SCENARIO and --scenario are the same; give one")
        options["scenario"] = named_scenario
    if file is not None and count is not None:
        raise click.UsageError("--file says how many jobs there are; leave out --count")
    try:
        payload = payload_of(options)
        if file is not None:
            bodies = from_file(file, payload)
            plan = Plan(as_json=invocation.json, follow=follow, total=lines_of(file))
            return invocation.work(lambda fleet: submit_many(fleet, bodies, plan))
        job = checked(payload)
    except WrongOption as wrong:
        raise click.UsageError(str(wrong)) from None
    if count is not None:
        copies = repeated(payload, count)
        plan = Plan(as_json=invocation.json, follow=follow, total=count)
        return invocation.work(lambda fleet: submit_many(fleet, copies, plan))
    plan = Plan(as_json=invocation.json, follow=follow, total=1)
    return invocation.work(lambda fleet: _submit_one(fleet, identified(job), plan))


async def _submit_one(fleet: Fleet, job: SubmitJob, plan: Plan) -> int:
    reply = await fleet.client.submit(job)
    if reply.error is not None:
        show_refusal(reply, as_json=plan.as_json)
        return Exit.REFUSED
    if plan.follow:
        jobs = [JobId(reply.job_id)]
        return await watch_to_end(fleet, jobs, after=first_of([reply]), as_json=plan.as_json)
    if plan.as_json:
        show_json(reply)
    else:
        known = " (it was there already)" if reply.duplicate else ""
        click.echo(f"{reply.job_id}  {reply.status}{known}")
    return Exit.OK
