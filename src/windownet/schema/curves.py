"""The section of the schedule, and what else may follow a curve over the run."""

import math
from typing import Literal

from pydantic import Field

from windownet.schema.section import Count, Rate, Section

# The numbers that may follow a curve of their own, beside the rate.
SCHEDULABLE = (
    "words.anchor",
    "regularization.input_dropout",
    "regularization.hidden_dropout",
    "regularization.word_dropout",
    "regularization.label_smoothing",
    "regularization.l2",
    "regularization.max_norm",
    "optimizer.momentum",
    "optimizer.decay",
    "optimizer.b1",
    "optimizer.b2",
    "optimizer.eps",
    "optimizer.weight_decay",
    "optimizer.clip_value",
    "optimizer.clip_norm",
    "train.average",
)
RATES = "optimizer.rates."
# Of these 0 means none, or is divided by.
ABOVE_ZERO = ("regularization.max_norm", "optimizer.eps", "optimizer.clip_value", "optimizer.clip_norm")


class Curve(Section):
    """A number over the run, as a factor of what the config gives."""

    name: Literal[
        "constant",
        "step",
        "exponential",
        "inverse_time",
        "inverse_sqrt",
        "linear",
        "polynomial",
        "cosine",
        "one_cycle",
        "triangular",
        "warmup_stable_decay",
        "plateau",
    ] = Field("constant", description="which one")
    warmup: Rate = Field(
        0.0, description="share of the run in which the rate climbs from 0 to where the schedule starts"
    )
    final: float = Field(
        0.0,
        ge=0,
        le=1,
        description="linear, polynomial, cosine, one_cycle, warmup_stable_decay, plateau: factor that the rate ends "
        "with; of plateau, that it does not fall below",
    )
    power: float = Field(2.0, gt=0, le=100, description="polynomial: exponent of the share of the run that is left")
    factor: float = Field(0.5, gt=0, le=1, description="step, exponential, plateau: what the rate is multiplied by")
    every: float = Field(
        0.2,
        gt=0,
        le=1,
        description="step, exponential, inverse_time, inverse_sqrt: time that the fall is measured in, as a share of "
        "the run",
    )
    cycles: int = Field(
        1,
        ge=1,
        le=50,
        description="cosine, triangular: cycles, at most one a step or, triangular, one every two; a cosine restarts "
        "from the peak",
    )
    growth: float = Field(1.0, ge=1, le=10, description="cosine: length of a cycle over that of the one before")
    start: float = Field(0.04, ge=0, le=1, description="one_cycle, triangular: factor that the rate climbs from")
    climb: Rate = Field(0.3, description="one_cycle: share of the cycle in which the rate climbs")
    decay: float = Field(0.2, gt=0, le=1, description="warmup_stable_decay: share of the run in which the rate falls")

    def lowest(self) -> float:
        """What it does not fall below over the run, however many steps that has; 0 with a warm-up."""
        if self.warmup:
            return 0.0
        # In whole steps, `every` may be a third shorter.
        longest = 1.5 / self.every
        match self.name:
            case "step" | "exponential":
                return math.pow(self.factor, longest)
            case "inverse_time":
                return 1 / (1 + longest)
            case "inverse_sqrt":
                return 1 / math.sqrt(1 + longest)
            case "linear" | "polynomial" | "cosine" | "warmup_stable_decay":
                return self.final
            case "one_cycle":
                return min(self.start, self.final)
            case "triangular":
                return self.start
            case "constant" | "plateau":
                return 1.0


class ScheduleConfig(Curve):
    """The learning rate over the run, as a factor of optimizer.learning_rate."""

    patience: Count = Field(
        2, description="plateau: epochs without a better dev F1 after which the rate falls, counted anew each time"
    )
    others: dict[str, Curve] = Field(
        {},
        description='curves of other numbers, such as {"optimizer.weight_decay" = {name = "cosine"}}: each has the '
        "fields above, of that number in place of the rate; there may be one of "
        + f"{', '.join(SCHEDULABLE)}, and {RATES}PATTERN for a pattern of it",
    )
