"""The command line: its verbs, and what a person is told of an error."""

import contextlib
from collections.abc import Iterator
from typing import Any

import click
from click.exceptions import Exit

from windownet import __version__, interrupts
from windownet.errors import InputError
from windownet.verbs import configs, streams, tagging, vectors
from windownet.verbs.gradcheck import gradcheck
from windownet.verbs.lint import lint
from windownet.verbs.pretrain import pretrain
from windownet.verbs.runs import runs
from windownet.verbs.sweep import sweep
from windownet.verbs.train import train


class _Verbs(click.Group):
    def main(self, *args: Any, **options: Any) -> Any:
        streams.prepare()
        return super().main(*args, **options)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _answered():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _answered():
            return super().invoke(ctx)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        streams.require_output(name or "")
        return name, command, rest


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        click.echo(f"windownet: {error}", err=True)
        raise Exit(2) from None
    except KeyboardInterrupt as error:
        interrupts.raise_no_more()
        click.echo(interrupts.line(error), err=True)
        raise Exit(interrupts.status(error)) from None
    except BrokenPipeError:
        # Whoever read our output has what they wanted.
        streams.let_go_of_output()
        raise Exit(0) from None
    except SystemExit as error:
        # rich makes one of it.
        if isinstance(error.__context__, BrokenPipeError):
            raise Exit(0) from None
        raise
    except OSError as error:
        place = error.filename or "standard input or output"
        advice = "check that it is there, and who may use it" if error.filename else "see what it is connected to"
        click.echo(f"windownet: {place}: {error.strerror or error}; {advice}", err=True)
        streams.let_go_of_output()
        raise Exit(2) from None
    except Exception as error:
        # jax says so by the message alone, and has no class for it.
        if not (isinstance(error, MemoryError) or "out of memory" in str(error).lower()):
            raise
        click.echo(
            f"windownet: not enough memory ({error}); a tagger needs less with a smaller train.batch_size or "
            "model.hidden, and train.accumulate keeps the windows of a step; word vectors do with a smaller "
            "pretrain.width, pretrain.block or pretrain.steps_per_call",
            err=True,
        )
        raise Exit(2) from None


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="windownet")
def main() -> None:
    """Train window-model named-entity taggers, and tag with them.

    Settings are fields of the config: section.key=value, such as train.epochs=3, changes one on the command line.
    """


for _verb in (
    configs.init,
    configs.show,
    configs.diff,
    configs.schedule,
    lint,
    sweep,
    pretrain,
    runs,
    train,
    tagging.evaluate,
    tagging.tag,
    gradcheck,
    vectors.neighbours,
    vectors.drift,
):
    main.add_command(_verb)
