"""Configs of published window taggers, each a commented TOML file beside this one."""

from importlib import resources

from windownet.errors import InputError


def names() -> list[str]:
    """The presets there are."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def text(name: str) -> str:
    """The config of a preset, in TOML, with its comments.

    Raises:
      InputError: there is none of that name.
    """
    if name not in names():
        raise InputError(f"--preset {name}: required one of {', '.join(names())}; name one of them")
    return resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
