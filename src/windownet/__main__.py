"""The `windownet` command, also as `python -m windownet`."""

import contextlib
import os
import sys

from windownet import interrupts


def main() -> None:
    """Run the command line, from its first import on such that a signal ends it with one line."""
    with interrupts.raising():
        try:
            from windownet.cli import main as command

            command()
        except KeyboardInterrupt as error:
            # Outside of any verb: nothing was begun.
            interrupts.raise_no_more()
            print("windownet: interrupted", file=sys.stderr)
            _leave(interrupts.status(error))
        except SystemExit as error:
            if error.code not in (130, 143):
                raise
            _leave(int(error.code))


def _leave(status: int) -> None:
    # All is written and closed. What jax had begun to trace or compile does not outlive the end of the interpreter: it
    # crashes, more often than not, on the way out.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
