"""`ffrtmp completion`: scripts for shells."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, *, shell: str) -> None:
    """Print the completion script of SHELL.

    bash: `eval "$(ffrtmp completion bash)"` in ~/.bashrc; zsh the same in ~/.zshrc; fish:
    `ffrtmp completion fish > ~/.config/fish/completions/ffrtmp.fish`.
    """
    kind = get_completion_class(shell)
    assert kind is not None, shell
    root = context.find_root().command
    click.echo(kind(root, {}, "ffrtmp", "_FFRTMP_COMPLETE").source())
