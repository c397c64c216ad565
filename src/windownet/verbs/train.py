"""The verb that trains."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from windownet.train.levels import LEVELS, Level
from windownet.verbs import arguments

if TYPE_CHECKING:
    from rich.console import Console

    from windownet.metrics import Record
    from windownet.schema.config import Config
    from windownet.train.loop import Result
    from windownet.train.prepare import Prepared


@click.command()
@arguments.of_a_run
@click.option("--quiet", is_flag=True, help="Show warnings and what came of it, nothing else; --log-level warning.")
@click.option(
    "--log-level", "level", type=click.Choice(LEVELS), default="info", show_default=True, help="Least to be shown."
)
def train(
    config: Path | None,
    settings: tuple[str, ...],
    run_dir: Path | None,
    replace: bool,
    resume: Path | None,
    quiet: bool,
    level: Level,
) -> None:
    """Train a tagger as CONFIG says; keep the best epoch in RUN/model and the last in RUN/last.

    A run that was cut off, however that happened, ends after --resume RUN with the bits it would have had.
    """
    from rich.console import Console

    from windownet import run_folder
    from windownet.train import loop
    from windownet.train.checkpoints import FREE
    from windownet.train.prepare import prepare

    level = "warning" if quiet and level in ("debug", "info") else level
    console = Console(stderr=True)
    if resume is not None:
        settings = arguments.to_resume(resume, config, settings, run_dir, replace, FREE)
        resume = run_folder.itself(resume)
        if (end := run_folder.end_of(resume)) is not None:
            click.echo(f"{resume}: {_figures(end)}; the run has finished, nothing is left to do")
            return
        run_dir, resolved = resume, _config_of(resume, settings)
    else:
        run_dir, resolved = _new(config, settings, run_dir, replace)
    prepared = prepare(resolved, console if level in ("debug", "info") else None)
    try:
        if run_dir is None:
            assert config is not None
            run_dir = run_folder.create_next(config, resolved.to_toml())
        elif resume is None:
            run_folder.create(run_dir, resolved.to_toml(), replace)
        _introduce(prepared, run_dir, console, LEVELS.index(level))
        result = loop.train(prepared, run_dir, console, resume=resume is not None, level=level)
    except KeyboardInterrupt as error:
        # Before its first step, a run does not tell of it.
        if not str(error) and run_dir is not None and (old := run_folder.replaced(run_dir)).exists():
            error.args = (f"interrupted; the run that was to be replaced is in {old}",)
        raise
    _show(result)


def _new(
    config: Path | None, settings: tuple[str, ...], run_dir: Path | None, replace: bool
) -> "tuple[Path | None, Config]":
    from windownet import config as config_module, run_folder

    config = arguments.to_begin(config, run_dir, replace)
    resolved = config_module.load(config, settings)
    return None if run_dir is None else run_folder.check(run_dir, replace), resolved


def _config_of(run: Path, settings: tuple[str, ...]) -> "Config":
    from windownet import config as config_module, run_folder
    from windownet.resume import CONFIG

    # Reading the data takes time; so a second process learns at once that it is one too many.
    with run_folder.locked(run):
        return config_module.load(run / CONFIG, settings)


def _introduce(prepared: "Prepared", folder: Path, console: "Console", level: int) -> None:
    from windownet.train.cautions import cautions
    from windownet.train.prepare import unseen_types

    def show(line: str, at: Level) -> None:
        if LEVELS.index(at) >= level:
            style = "yellow" if at == "warning" else None
            console.print(line, style=style, highlight=False, soft_wrap=True, markup=False)

    splits = prepared.splits
    held_out = " (held out of train)" if splits.held_out else ""
    show(
        f"{len(splits.train):,} training sentences, {len(splits.dev):,} dev{held_out}, {len(splits.test):,} test; "
        f"{len(prepared.vocabulary):,} word rows, {len(prepared.tags)} tags; writing {folder}",
        "info",
    )
    for part, types in unseen_types(prepared).items():
        counts = ", ".join(f"{count} {name}" for name, count in types.items())
        show(
            f"warning: {part} has mentions of types that train never has: {counts}; they will be scored as missed",
            "warning",
        )
    for line in prepared.words.notes:
        show(line, "info")
    for line in (*prepared.words.warnings, *cautions(prepared)):
        show(f"warning: {line}", "warning")


def _show(result: "Result") -> None:
    from rich.console import Console

    from windownet.train.scores_table import scores_table

    out = Console()
    for part, scores in (("dev", result.dev), ("test", result.test)):
        if scores is not None:
            out.print(scores_table(f"{part}, model of epoch {result.best_epoch}", scores))
    test = f"  test F1 {result.test.f1:.2f}" if result.test else ""
    speed = "" if result.tokens_per_second is None else f"  {result.tokens_per_second:,.0f} tokens/s"
    out.print(
        f"dev F1 {result.dev.f1:.2f}{test}  {result.seconds:.1f} s{speed}  {result.folder}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def _figures(end: "Record") -> str:
    f1 = {part: end.number(f"{part}.f1", required=False) for part in ("dev", "test")}
    return ", ".join(f"{part} F1 {found:.2f}" for part, found in f1.items() if found is not None)
