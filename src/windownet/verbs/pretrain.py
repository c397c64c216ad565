"""The verb that trains word vectors."""

from pathlib import Path

import click

from windownet.verbs import arguments


@click.command()
@arguments.of_a_run
def pretrain(
    config: Path | None, settings: tuple[str, ...], run_dir: Path | None, replace: bool, resume: Path | None
) -> None:
    """Train word vectors on raw text as CONFIG says; write RUN/vectors.txt and RUN/vectors.safetensors.

    A run that was cut off, however that happened, ends after --resume RUN with the bits it would have had.
    """
    from rich.console import Console

    from windownet import config as config_module, run_folder
    from windownet.pretrain import loop
    from windownet.resume import CONFIG
    from windownet.schema.pretrain import PretrainConfig

    if resume is not None:
        settings = arguments.to_resume(resume, config, settings, run_dir, replace, loop.FREE)
        folder = run_folder.itself(resume)
        if loop.is_finished(folder):
            click.echo(f"{folder}: its vectors are written; the run has finished, nothing is left to do")
            return
        resolved = config_module.load_as(PretrainConfig, folder / CONFIG, settings)
    else:
        config = arguments.to_begin(config, run_dir, replace)
        resolved = config_module.load_as(PretrainConfig, config, settings)
        if run_dir is not None:
            run_dir = run_folder.check(run_dir, replace, run_folder.OF_VECTORS)
        loop.require_text(resolved)
        if run_dir is None:
            folder = run_folder.create_next(config, resolved.to_toml())
        else:
            run_folder.create(folder := run_dir, resolved.to_toml(), replace)
    console = Console(stderr=True)
    with run_folder.locked(folder):
        console.print(f"writing {folder}", highlight=False, soft_wrap=True, markup=False)
        try:
            result = loop.pretrain(resolved, folder, console, resume=resume is not None)
        except loop.RefusedTextError:
            if resume is None:
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
