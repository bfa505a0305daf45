"""`ffrtmp`: the group of all commands. Nothing heavy is imported before a command runs."""

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

import click

from services.cli.invocation import Exit, Invocation, Output
from services.errors import ConfigurationError, FfrtmpError, LogUnavailable, QueryRefused

COMMANDS = {
    "up": ("services.cli.host.up:up", "Run a whole fleet on this host."),
    "demo": ("services.cli.demo.command:demo", "Run a fleet, transcode real video, check it."),
    "jobs": ("services.cli.jobs.commands:jobs", "Submit, list, follow and control jobs."),
    "nodes": ("services.cli.look.nodes:nodes", "List, describe, cordon and drain nodes."),
    "policy": ("services.cli.operate.policy:policy", "Show and set how jobs are ranked."),
    "sql": ("services.cli.look.query:sql", "Ask the projection a question in SQL."),
    "events": ("services.cli.look.tail:events", "Follow the log."),
    "worker": ("services.cli.host.serve:worker", "Run a worker."),
    "scheduler": ("services.cli.host.serve:scheduler", "Run a scheduler."),
    "projector": ("services.cli.host.serve:projector", "Run a projector."),
    "completion": ("services.cli.completion:completion", "Print a shell's completion script."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None: there is none of this name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), cmd_name
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; refuse a name that does not exist with the one it looks like."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            import difflib  # noqa: PLC0415 - only for a typo

            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        *others: Any,  # noqa: ANN401 - click's own signature
        **extra: Any,  # noqa: ANN401 - click's own signature
    ) -> NoReturn:
        """Run and exit: the status is the command's, and an error is one line on stderr."""
        extra["standalone_mode"] = False
        stdout = sys.stdout
        try:
            status = super().main(args, *others, **extra)
            sys.stdout.flush()
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            sys.exit(Exit.INTERRUPTED)
        except SystemExit as ended:
            # click ends at a broken pipe by itself: it silences stdout and calls that a failure
            sys.exit(Exit.PIPE if sys.stdout is not stdout else ended.code)
        except BrokenPipeError:
            _leave_pipe()
        except BaseException as error:  # noqa: BLE001 - re-raised unless it is one of ours
            _end(error)
        sys.exit(status if isinstance(status, int) else Exit.OK)


def _show_version(context: click.Context, _: click.Parameter, value: object) -> None:
    if not value:
        return
    from services.cli.version import version  # noqa: PLC0415 - not for --help

    click.echo(f"ffrtmp {version()}")
    context.exit(Exit.OK)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--nats", envvar="FFRTMP_NATS", metavar="URL", help="Where the fleet's NATS is.")
@click.option(
    "--data-dir",
    envvar="FFRTMP_DATA_DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where `ffrtmp up` keeps its data, and where to find the fleet it runs.",
)
@click.option(
    "--config",
    envvar="FFRTMP_CONFIG",
    type=click.Path(dir_okay=False, path_type=Path),
    help="TOML file with settings, one table a service.",
)
@click.option(
    "--output",
    "-o",
    envvar="FFRTMP_OUTPUT",
    type=click.Choice([output.value for output in Output]),
    default=Output.TABLE.value,
    show_default=True,
    help="How to print results.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def main(
    context: click.Context,
    *,
    nats: str | None,
    data_dir: Path | None,
    config: Path | None,
    output: str,
) -> None:
    """Run and use a transcoding fleet whose whole memory is one log.

    Exit status: 0 done; 1 a job failed, was canceled or rejected; 2 wrong usage; 3 refused by the
    service; 4 no answer in time; 130 interrupted.
    """
    if context.obj is not None:
        context.obj.output = Output(output)
        return
    context.obj = Invocation(
        data_dir=_default_data_dir() if data_dir is None else data_dir,
        nats=nats,
        config=config,
        output=Output(output),
    )


def _default_data_dir() -> Path:
    import platformdirs  # noqa: PLC0415 - not for --help

    return platformdirs.user_data_path("ffrtmp", appauthor=False)


def _end(error: BaseException) -> NoReturn:
    """Exit with one line if the error is one of ours, else raise it as it is."""
    from projections.errors import ProjectionError  # noqa: PLC0415 - not for --help

    leaves = tuple(_leaves(error))
    expected = (FfrtmpError, ProjectionError)
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        sys.exit(Exit.INTERRUPTED)
    if any(isinstance(leaf, BrokenPipeError) for leaf in leaves):
        _leave_pipe()
    ours = next((leaf for leaf in leaves if isinstance(leaf, expected)), None)
    if ours is None or not all(isinstance(leaf, expected) for leaf in leaves):
        raise error
    click.echo(f"ffrtmp: {ours}", err=True)
    match ours:
        case LogUnavailable():
            sys.exit(Exit.UNREACHABLE)
        case ConfigurationError():
            sys.exit(Exit.USAGE)
        case QueryRefused():
            sys.exit(Exit.REFUSED)
        case _:
            sys.exit(Exit.FAILED)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        group = cast(BaseExceptionGroup[BaseException], error)
        for inner in group.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _leave_pipe() -> NoReturn:
    """Exit quietly: the interpreter's last flush must not complain of the pipe either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(Exit.PIPE)


if __name__ == "__main__":
    main()
