"""The config of a tagger's run: all its sections, and what must hold between them."""

import difflib
from typing import Self

import pydantic

from windownet.schema.curves import ABOVE_ZERO, RATES, SCHEDULABLE, ScheduleConfig
from windownet.schema.data import DataConfig, FeaturesConfig, WordsConfig
from windownet.schema.keys import value
from windownet.schema.network import InitConfig, ModelConfig
from windownet.schema.section import FLOAT32_MIN, Schema
from windownet.schema.training import LogConfig, LossConfig, OptimizerConfig, RegularizationConfig, TrainConfig


class Config(Schema):
    """A whole run."""

    data: DataConfig = DataConfig()
    features: FeaturesConfig = FeaturesConfig()
    words: WordsConfig = WordsConfig()
    model: ModelConfig = ModelConfig()
    init: InitConfig = InitConfig()
    loss: LossConfig = LossConfig()
    regularization: RegularizationConfig = RegularizationConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    log: LogConfig = LogConfig()

    @pydantic.model_validator(mode="after")
    def _source_is_named(self) -> Self:
        if self.data.source == "hub" and not self.data.dataset:
            raise ValueError("data.dataset: required the name of a data set for data.source = 'hub', got none")
        return self

    @pydantic.model_validator(mode="after")
    def _schedule_fits_into_the_run(self) -> Self:
        curves = {f"schedule.others.{key}": curve for key, curve in self.schedule.others.items()}
        for place, curve in {"schedule": self.schedule, **curves}.items():
            if curve.name == "warmup_stable_decay" and curve.warmup + curve.decay > 1:
                raise ValueError(
                    f"{place}.decay: required at most what {place}.warmup = {curve.warmup:g} leaves of the run, got "
                    f"{curve.decay:g}; make one of them smaller"
                )
        return self

    @pydantic.model_validator(mode="after")
    def _others_can_follow_a_curve(self) -> Self:
        schedulable = [*SCHEDULABLE, *(f"{RATES}{pattern}" for pattern in self.optimizer.rates)]
        for key, curve in self.schedule.others.items():
            place = f"schedule.others.{key}"
            if key not in schedulable:
                if key == "optimizer.learning_rate":
                    raise ValueError(f"{place}: the rate follows the section [schedule] itself; set schedule.name")
                near = difflib.get_close_matches(key, schedulable, n=1, cutoff=0.5)
                raise ValueError(
                    f"{place}: required one of {', '.join(schedulable)}, got {key!r}; "
                    + (f"did you mean {near[0]}?" if near else "no other number may have a curve")
                )
            if not value(self, key):
                raise ValueError(f"{place}: required {key} above 0, got 0; set what the curve is to be a factor of")
            if curve.name == "plateau":
                raise ValueError(f"{place}.name: required another than 'plateau', which is for the rate; take 'step'")
            if key in ABOVE_ZERO and value(self, key) * curve.lowest() < FLOAT32_MIN:
                raise ValueError(
                    f"{place}: required a curve that stays above 0 in float32, got {curve.name!r}; leave its warmup "
                    "out and set its final, start, factor or every higher"
                )
        return self

    @pydantic.model_validator(mode="after")
    def _decay_leaves_something(self) -> Self:
        decay = self.optimizer.weight_decay * max([1.0, *self.optimizer.rates.values()])
        if decay * self.optimizer.learning_rate >= 1:
            raise ValueError(
                f"optimizer.weight_decay: required less than 1 / optimizer.learning_rate, got {decay:g} with a rate of "
                f"{self.optimizer.learning_rate:g}; a step would take off more than all"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _smoothing_has_shares(self) -> Self:
        smoothing = self.regularization.label_smoothing
        if smoothing and self.loss.name != "cross_entropy":
            raise ValueError(
                f"regularization.label_smoothing: required loss.name = 'cross_entropy' with it, got {self.loss.name!r} "
                f"and {smoothing:g}; leave one of them out"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _rows_can_catch_up(self) -> Self:
        o = self.optimizer
        if o.rows == "exact" and o.name in ("adam", "adamw", "nadam") and o.b1 >= o.b2:
            raise ValueError(
                f"optimizer.rows: 'exact' required optimizer.b1 below optimizer.b2, got {o.b1:g} and {o.b2:g}; set "
                "optimizer.rows = 'replay'"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _table_is_unfrozen(self) -> Self:
        w = self.words
        if w.unfreeze_after and w.update == "freeze":
            raise ValueError(
                f"words.unfreeze_after: required words.update = 'fine-tune' or 'auto' with it, got 'freeze' and "
                f"{w.unfreeze_after}; leave one of them out"
            )
        if w.unfreeze_after >= self.train.epochs:
            raise ValueError(
                f"words.unfreeze_after: required fewer than train.epochs = {self.train.epochs}, got "
                f"{w.unfreeze_after}; set words.update = 'freeze' for a table that never moves"
            )
        return self
