"""The `windownet` command, also as `python -m windownet`."""

import contextlib
import os
import sys


def main() -> None:
    """Run the command line; a signal ends it with one line, from the first import on."""
    try:
        from windownet import interrupts

        with interrupts.raising():
            from windownet.cli import main as command

            command()
    except KeyboardInterrupt as error:
        # Outside of any verb: nothing was begun, or all is done.
        from windownet.interrupts import line, raise_no_more, status

        raise_no_more()
        print(line(error), file=sys.stderr)
        _leave(status(error))
    except SystemExit as error:
        # Python would tell of what its end is interrupted in.
        interrupts.raise_no_more()
        if error.code not in (130, 143):
            raise
        _leave(int(error.code))


def _leave(status: int) -> None:
    # All is written and closed. What jax had begun to trace or to compile does not outlive the end of the interpreter:
    # more often than not it crashes on the way out.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
