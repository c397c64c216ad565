"""The errors that are meant for the person who meets them."""


class InputError(Exception):
    """What a person gave cannot be used: a file, a config, an argument.

    The message is one line: where (file:line, config key, argument), what was required, what came, what to do.
    The command line prints it without a traceback and exits with status 2.
    """


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM; the command line exits with status 143."""
