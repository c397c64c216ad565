"""The schema of `pretrain`."""

from pathlib import Path

import pytest

from windownet.config import Config, load_as
from windownet.pretrain.settings import PretrainConfig

CONFIGS = sorted(Path(__file__).parents[2].joinpath("configs").glob("pretrain_*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_configs_of_the_project_load_and_are_written_back(path, tmp_path):
    config = load_as(PretrainConfig, path, ["pretrain.epochs=7", "text.root=2017"])
    assert (config.pretrain.epochs, config.text.root) == (7, "2017")
    (tmp_path / "again.toml").write_text(config.to_toml(), encoding="utf-8")
    assert load_as(PretrainConfig, tmp_path / "again.toml") == config


def test_the_configs_of_the_project_are_there():
    assert {path.stem for path in CONFIGS} == {"pretrain_demo", "pretrain_wiki"}


def test_vectors_fit_a_tagger_that_is_left_as_it_is():
    text, features = PretrainConfig().text, Config().features
    assert (text.case, text.digits) == (features.case, features.digits)
