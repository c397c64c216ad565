"""What several verbs take."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import click

from windownet.errors import InputError


class _Path(click.Path):
    # Of an empty name, as an unset variable of a shell leaves it, pathlib makes the current folder.
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("required a file or folder, got an empty name", param, ctx)
        return super().convert(value, param, ctx)


# Whoever opens a file says in one line why it cannot be read; click would in four.
PATH = _Path(path_type=Path, readable=False)


def of_a_run(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments of a verb that makes a run, or goes on with one."""
    parameters = (
        click.argument("config", type=PATH, required=False),
        click.argument("settings", nargs=-1, metavar="[KEY=VALUE]..."),
        click.option(
            "--run-dir", type=PATH, help="Folder to write; by default the first free one of runs/NAME, runs/NAME-2."
        ),
        click.option("--replace", is_flag=True, help="Replace the run that is in --run-dir."),
        click.option("--resume", type=PATH, metavar="RUN", help="Go on with a run that was cut off; no CONFIG then."),
    )
    for parameter in reversed(parameters):
        verb = parameter(verb)
    return verb


def to_begin(config: Path | None, run_dir: Path | None, replace: bool) -> Path:
    """The config of a new run.

    Raises:
      click.UsageError: there is none.
      InputError: --replace comes without --run-dir.
    """
    if config is None:
        raise click.UsageError("Missing argument 'CONFIG'.")
    if replace and run_dir is None:
        raise InputError("--replace: required --run-dir as well, the run to replace; name it, or leave --replace out")
    return config


def to_resume(
    run: Path,
    config: Path | None,
    settings: tuple[str, ...],
    run_dir: Path | None,
    replace: bool,
    free: Collection[str],
) -> tuple[str, ...]:
    """The settings of a run that is gone on with.

    Raises:
      InputError: --run-dir or --replace come with it, or a setting that is not `free`.
    """
    from windownet.resume import require_free

    if run_dir is not None or replace:
        raise InputError(f"--resume {run}: required without --run-dir and --replace; leave them out")
    # Without CONFIG the first setting comes in its place.
    settings = settings if config is None else (str(config), *settings)
    require_free(settings, free)
    return settings
