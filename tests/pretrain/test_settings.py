"""The schema of `pretrain`."""

from pathlib import Path

import pytest

from windownet.config import load_as
from windownet.schema.config import Config
from windownet.schema.pretrain import PretrainConfig, PretrainSection

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


def test_ranking_has_defaults_of_its_own_and_keeps_what_is_given() -> None:
    ranking = PretrainSection.model_validate({"objective": "ranking", "block": 128})
    assert (ranking.learning_rate, ranking.accumulator, ranking.block) == (0.2, 0.01, 128)
    assert PretrainSection().block == PretrainSection(objective="skipgram").block == 8192
    assert "ranking: 2048" in str(PretrainSection.model_fields["block"].description)
    assert PretrainSection.model_validate(ranking.model_dump()) == ranking
