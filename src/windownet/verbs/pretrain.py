"""The verb that trains word vectors."""

from pathlib import Path

import click

from windownet.errors import InputError

_FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("config", type=_FOLDER)
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--run-dir", type=_FOLDER, help="Folder to write; by default the first free one of runs/NAME, runs/NAME-2."
)
@click.option("--replace", is_flag=True, help="Replace the run that is in --run-dir.")
@click.option("--resume", is_flag=True, help="Go on with the run that is in --run-dir from its last checkpoint.")
def pretrain(config: Path, settings: tuple[str, ...], run_dir: Path | None, replace: bool, resume: bool) -> None:
    """Train word vectors on raw text as CONFIG says; write RUN/vectors.txt and RUN/vectors.safetensors."""
    from rich.console import Console

    from windownet import config as config_module
    from windownet.pretrain import loop
    from windownet.pretrain.settings import PretrainConfig
    from windownet.train import run_folder

    for flag, given in (("--replace", replace), ("--resume", resume)):
        if given and run_dir is None:
            raise InputError(f"{flag}: required --run-dir as well, the run it is meant for; name it, or leave it out")
    if replace and resume:
        raise InputError("--resume: required without --replace, got both; leave one out")
    # A run of another kind has a config of another kind, which a person may well have given as CONFIG.
    if resume and run_dir is not None:
        run_dir = run_folder.itself(run_dir)
        loop.check_kind(run_dir)
    resolved = config_module.load_as(PretrainConfig, config, settings)
    if resume and run_dir is not None:
        loop.check_resumable(resolved, folder := run_dir)
    else:
        if run_dir is not None:
            run_dir = run_folder.check(run_dir, replace, loop.NAMES)
        loop.require_text(resolved)
        if run_dir is None:
            folder = run_folder.create_next(config, resolved.to_toml())
        else:
            run_folder.create(folder := run_dir, resolved.to_toml(), replace)
    console = Console(stderr=True)
    with run_folder.locked(folder):
        console.print(f"writing {folder}", highlight=False, soft_wrap=True, markup=False)
        try:
            result = loop.pretrain(resolved, folder, console, resume=resume)
        except loop.RefusedTextError:
            if not resume:
                # What stands in its place refuses the command that gives another text.
                run_folder.withdraw(folder)
            raise
    run_folder.discard_replaced(folder)
    speeds = (result.words_per_second, result.raw_words_per_second)
    speed, raw_speed = ("-" if each is None else f"{each:,.0f}" for each in speeds)
    Console().print(
        f"{result.words:,} words, {result.width} wide  {result.seconds:.1f} s  {speed} words/s "
        f"({raw_speed} of the text)  {result.folder}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
