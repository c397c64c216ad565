"""How much of a run is shown; imports nothing, as the command line's help names them."""

from typing import Literal, get_args

Level = Literal["debug", "info", "warning", "error"]
# The least first.
LEVELS: tuple[Level, ...] = get_args(Level)
