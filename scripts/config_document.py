"""Write docs/config.md from the schemas."""

import argparse
from pathlib import Path

from windownet.schema.pretrain import PretrainConfig
from windownet.settings.document import markdown

_PRETRAIN = """\
# The config of `windownet pretrain`

From the schema in [`schema/pretrain.py`](../src/windownet/schema/pretrain.py); `section.key=value` as above.
"""


def page() -> str:
    """What docs/config.md has."""
    return markdown((_PRETRAIN, PretrainConfig))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    Path(__file__).parents[1].joinpath("docs", "config.md").write_text(page(), encoding="utf-8")
