"""What several verbs take."""

from pathlib import Path

import click

PATH = click.Path(path_type=Path)
