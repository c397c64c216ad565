"""The sections about training: loss, regularization, optimizer, train, log; its schedule is in `curves`."""

from typing import Annotated, Literal

from pydantic import Field

from windownet.schema.section import Count, NonNegative, Rate, Section


class LossConfig(Section):
    """What training makes small."""

    name: Literal["cross_entropy", "margin"] = Field(
        "cross_entropy",
        description="cross_entropy: the negative log-probability of the tag, by softmax; margin: by how much its score "
        "is not 1 above the best other one",
    )


class RegularizationConfig(Section):
    """What keeps the network from learning the training data by heart."""

    input_dropout: Rate = Field(0.0, description="share of the window's values set to zero in training")
    hidden_dropout: Rate = Field(0.0, description="share of the hidden values set to zero in training")
    word_dropout: Rate = Field(0.0, description="share of the words replaced by the rare one, drawn anew every epoch")
    label_smoothing: Rate = Field(
        0.0, description="share of each tag's weight in the cross-entropy spread over all tags"
    )
    l2: float = Field(0.0, ge=0, description="times half the squared weights of all layers, added to the loss")
    max_norm: float = Field(0.0, ge=0, description="bound of the norm of each hidden unit's weights; 0: none")


class OptimizerConfig(Section):
    """The optax optimizer."""

    name: Literal[
        "sgd",
        "momentum",
        "nesterov",
        "adagrad",
        "rmsprop",
        "adadelta",
        "adam",
        "adamw",
        "nadam",
        "radam",
        "lion",
    ] = Field("adam", description="which one; adam and adamw are the same, since weight_decay is decoupled in all")
    learning_rate: float = Field(1e-3, gt=0, description="peak rate; the schedule scales it")
    momentum: Rate = Field(0.9, description="momentum, nesterov: share of the last update kept")
    accumulator: float = Field(0.0, ge=0, description="adagrad: its sums of squares before the first step")
    decay: Rate = Field(0.9, description="rmsprop, adadelta: decay of the mean squares")
    b1: Rate = Field(0.9, description="adam, adamw, nadam, radam, lion: decay of the mean; lion: in the update")
    b2: Rate = Field(
        0.999,
        description="adam, adamw, nadam, radam, lion: decay of the mean square; lion: of the mean, 0.99 is usual",
    )
    eps: float = Field(
        1e-8,
        gt=0,
        description="adam, adamw, nadam, radam: added to the root; adagrad, rmsprop, adadelta: under it",
    )
    weight_decay: float = Field(
        0.0, ge=0, lt=1, description="decoupled: share of the weights taken off in each step, times the rate"
    )
    undecayed: tuple[str, ...] = Field(
        ("*.b", "*.slope"), description="patterns of the parameters that weight_decay leaves alone"
    )
    clip_value: float = Field(0.0, ge=0, description="bound of every entry of the gradient; 0: none")
    clip_norm: float = Field(0.0, ge=0, description="bound of the norm of the whole gradient; 0: none")
    fan_in_rates: bool = Field(
        False, description="whether the rate of each layer is divided by its inputs, as Collobert et al. have it"
    )
    rates: dict[str, NonNegative] = Field(
        {},
        description='factor of the rate by parameter, such as {words = 0.1, "output.*" = 2}; the first match counts',
    )
    rows: Literal["exact", "replay", "lazy", "dense"] = Field(
        "exact",
        description="the word table's updates: exact: of touched rows only, those that a row missed in closed form "
        "where there is one (adam, adamw, nadam: as replay where eps is above 1e-7 or b2 within some 0.3 % of b1; "
        "momentum: as replay above some 0.997; radam, lion: as replay; all: as replay where schedule.others has "
        "momentum, decay, b1, b2 or eps, or where a step's weight decay is more than some 2 %); "
        "replay: the same one by one; lazy: missed updates never made; dense: of every row at every step",
    )


class TrainConfig(Section):
    """The run itself."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = Field(10, description="passes over the training data")
    batch_size: Count = Field(128, description="windows B in a batch")
    accumulate: Count = Field(
        1, description="batches A that make one step, by the mean over all their windows; to save memory"
    )
    steps_per_call: Count = Field(32, description="steps that one call of the compiled program runs, at most")
    patience: int = Field(0, ge=0, description="epochs without a better dev F1 after which the run stops; 0: never")
    average: Annotated[float, Field(ge=0, le=0.99999)] = Field(
        0.0,
        description="decay of the moving average of the parameters that is scored and saved in their place; 0: none",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of the first values, the order of the data and dropout")
    checkpoint_every: float = Field(60.0, ge=0, description="least seconds between two checkpoints; 0: after each call")
    keep_checkpoints: Count = Field(2, description="checkpoints kept, the last ones, until the run has finished")


class LogConfig(Section):
    """What a run tells beside its metrics."""

    tensorboard: bool = Field(False, description="write events/ for TensorBoard as well")
    statistics: bool = Field(
        False,
        description="tell of each call the rate, norms of gradients and updates by group of parameters, and the shares "
        "of dead units and saturated values",
    )
