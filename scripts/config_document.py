"""Write docs/config.md from the schema."""

from pathlib import Path

from windownet.settings.document import markdown

if __name__ == "__main__":
    Path(__file__).parents[1].joinpath("docs", "config.md").write_text(markdown(), encoding="utf-8")
