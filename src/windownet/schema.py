"""The config of a run, as one typed schema.

Every field states its type, range, default and meaning here and nowhere else.
"""

import difflib
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import pydantic
import tomli_w
from pydantic import Field

Nonlinearity = Literal[
    "sigmoid",
    "tanh",
    "hard_tanh",
    "relu",
    "leaky_relu",
    "prelu",
    "elu",
    "silu",
    "gelu",
    "gelu_tanh",
    "softplus",
]
Scheme = Literal["IO", "IOB1", "IOB2", "BIOES"]
_FLOAT32_MAX = 2.0**127 * (2 - 2.0**-23)
# The smallest normal number: XLA takes those below it for 0.
_FLOAT32_MIN = 2.0**-126
Count = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=1, le=65_536)]
Rate = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0)]


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
_RATES = "optimizer.rates."
# Of these 0 means none, or is divided by.
_ABOVE_ZERO = ("regularization.max_norm", "optimizer.eps", "optimizer.clip_value", "optimizer.clip_norm")


class Section(pydantic.BaseModel):
    """Fields that are read strictly: no unknown key, no value of another type."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @pydantic.field_validator("*")
    @classmethod
    def _text_can_be_written(cls, value: Any) -> Any:
        # Arguments that are not UTF-8 come as lone surrogates; neither they nor a NUL can go into a file or its name.
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and ("\0" in text or any("\ud800" <= sign <= "\udfff" for sign in text)):
                raise ValueError("UTF-8 text without NUL")
        return value

    @pydantic.field_validator("*")
    @classmethod
    def _float32_holds_it(cls, value: Any) -> Any:
        for number in value.values() if isinstance(value, dict) else (value,):
            if isinstance(number, float) and abs(number) > _FLOAT32_MAX:
                raise ValueError(f"a number that float32 holds, at most {_FLOAT32_MAX:.3g}")
            if isinstance(number, float) and 0 < abs(number) < _FLOAT32_MIN:
                raise ValueError(f"a number that float32 does not take for 0, at least {_FLOAT32_MIN:.3g}")
        return value


class Schema(Section):
    """Sections that make up a whole config."""

    def to_toml(self) -> str:
        """The complete config as TOML; `load` of it gives an equal config."""
        return tomli_w.dumps(self.model_dump(mode="json"))


class DataConfig(Section):
    """Where the sentences come from and how their source writes them."""

    source: Literal["demo", "columns", "table", "hub"] = Field(
        "columns",
        description="demo: the embedded corpus; columns: CoNLL-like files; table: Arrow, Parquet or JSON files; "
        "hub: a data set of the Hugging Face hub",
    )
    root: str = Field(".", description="folder that relative file names below are taken from")
    train: str = Field("train", description="training part: a file, or the split's name for demo and hub")
    dev: str = Field("", description="development part, likewise; empty: dev_share of train is held out for it")
    test: str = Field("", description="test part, likewise; empty: none")
    limit: int = Field(0, ge=0, description="use only so many sentences of train, drawn evenly from it; 0: all")
    dev_share: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="share of the training sentences held out if dev is empty; whatever the seed, the same ones",
    )
    scheme: Scheme = Field("IOB2", description="tag scheme that the source is written in")
    drop_types: tuple[str, ...] = Field((), description="entity types whose mentions are read as no mention")
    word_column: int = Field(0, description="columns: number of the word's column from 0; negative: from the end")
    tag_column: int = Field(-1, description="columns: number of the tag's column from 0; negative: from the end")
    separator: Literal["whitespace", "tab", "space"] = Field("whitespace", description="columns: what parts them")
    comment: str = Field("", description="columns: lines that begin with this are comments; empty: there are none")
    document_marker: str = Field("-DOCSTART-", description="columns: a row with this word parts documents")
    empty_word: str = Field("", description="stands for a word of nothing but blanks; empty: such a word is an error")
    dataset: str = Field("", description="hub: name of the data set, such as tomaarsen/conll2003")
    subset: str = Field("", description="hub: name of its configuration; empty: the default one")
    words_column: str = Field("tokens", description="hub, table: column with a list of words a row")
    tags_column: str = Field("ner_tags", description="hub, table: column with a list of tags a row")
    tag_names: tuple[str, ...] = Field((), description="hub, table: names of integer tags that come without names")


class FeaturesConfig(Section):
    """What the network is told of a word."""

    case: Literal["lower", "keep"] = Field("lower", description="case of words before look-up")
    digits: Literal["keep", "zero", "number"] = Field(
        "zero", description="zero: each digit becomes 0; number: a word of digits and ,.- becomes NUMBER"
    )
    min_count: Count = Field(2, description="words seen less often in training share the row of rare words")


class WordsConfig(Section):
    """The word table: pretrained vectors, and whether training moves them."""

    vectors: str = Field("", description="file of pretrained word vectors; empty: none")
    format: Literal["auto", "glove", "word2vec", "word2vec-binary", "npy", "safetensors"] = Field(
        "auto", description="layout of that file; auto: told by its name and first bytes"
    )
    skip_bad_lines: bool = Field(False, description="count its bad lines and go on, instead of stopping at the first")
    extra: int = Field(
        400_000, ge=0, description="at most this many words that only the file has get a row, its first ones"
    )
    update: Literal["fine-tune", "freeze", "auto"] = Field(
        "fine-tune", description="whether training moves the table; auto: decided by the size of the training data"
    )
    unfreeze_after: int = Field(0, ge=0, description="fine-tune, auto: epochs in which the table still stays as it is")
    anchor: float = Field(0.0, ge=0, description="L2 penalty that draws a step's rows to what training began with")


class ModelConfig(Section):
    """The window network."""

    window: int = Field(5, ge=1, le=63, description="words in a window: an odd number, the tagged word in the middle")
    word_width: Width = Field(50, description="width D of a word vector")
    capitalization_width: Width = Field(5, description="width F of a capitalization vector")
    hidden: tuple[Width, ...] = Field((300,), description="units H of each hidden layer; [] for none")
    nonlinearity: Nonlinearity = Field("hard_tanh", description="nonlinearity of the hidden layers")
    scheme: Scheme = Field("BIOES", description="tag scheme that the network predicts in")

    @pydantic.field_validator("window")
    @classmethod
    def _window_is_odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError("an odd number, so that the tagged word stands in the middle")
        return window


class InitConfig(Section):
    """The first values of the parameters."""

    weights: Literal[
        "glorot_uniform",
        "glorot_normal",
        "he_uniform",
        "he_normal",
        "lecun_uniform",
        "lecun_normal",
        "fan_in",
        "orthogonal",
        "uniform",
        "zeros",
    ] = Field("glorot_uniform", description="distribution of the weight matrices")
    weight_bound: float = Field(0.05, gt=0, description="uniform: weights are drawn from -weight_bound to weight_bound")
    table_bound: float = Field(
        0.1, gt=0, description="vectors of words and capitalizations are drawn from -table_bound to table_bound"
    )
    output_bias: Literal["zeros", "log_odds"] = Field(
        "zeros", description="bias of each tag's score; log_odds: the logarithm of the tag's share of the training data"
    )


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
    ] = Field("adam", description="which one")
    learning_rate: float = Field(1e-3, gt=0, description="peak rate; the schedule scales it")
    momentum: Rate = Field(0.9, description="momentum, nesterov: share of the last update kept")
    decay: Rate = Field(0.9, description="rmsprop, adadelta: decay of the mean squares")
    b1: Rate = Field(0.9, description="adam, adamw, nadam, radam, lion: decay of the mean; lion: in the update")
    b2: Rate = Field(
        0.999,
        description="adam, adamw, nadam, radam, lion: decay of the mean square; lion: of the mean, 0.99 is usual",
    )
    eps: float = Field(
        1e-8,
        gt=0,
        description="adagrad, rmsprop, adadelta, adam, adamw, nadam, radam: added to the root",
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
        "where there is one (adam, adamw, nadam: as replay where eps is above 1e-7; radam, lion: as replay; all: as "
        "replay where schedule.others has momentum, decay, b1, b2 or eps, or where a step's weight decay is more than "
        "some 2 %); replay: the same one by one; "
        "lazy: missed updates never made; dense: of every row at every step",
    )


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
        + f"{', '.join(SCHEDULABLE)}, and {_RATES}PATTERN for a pattern of it",
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
        schedulable = [*SCHEDULABLE, *(f"{_RATES}{pattern}" for pattern in self.optimizer.rates)]
        for key, curve in self.schedule.others.items():
            place = f"schedule.others.{key}"
            if key not in schedulable:
                near = difflib.get_close_matches(key, schedulable, n=1, cutoff=0.5)
                raise ValueError(
                    f"{place}: required one of {', '.join(schedulable)}, got {key!r}; "
                    + (f"did you mean {near[0]}?" if near else "no other number may have a curve")
                )
            if not value(self, key):
                raise ValueError(f"{place}: required {key} above 0, got 0; set what the curve is to be a factor of")
            if curve.name == "plateau":
                raise ValueError(f"{place}.name: required another than 'plateau', which is for the rate; take 'step'")
            if key in _ABOVE_ZERO and value(self, key) * curve.lowest() < _FLOAT32_MIN:
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
                f"words.unfreeze_after: required words.update = 'fine-tune' with it, got 'freeze' and "
                f"{w.unfreeze_after}; leave one of them out"
            )
        if w.unfreeze_after >= self.train.epochs:
            raise ValueError(
                f"words.unfreeze_after: required fewer than train.epochs = {self.train.epochs}, got "
                f"{w.unfreeze_after}; set words.update = 'freeze' for a table that never moves"
            )
        return self


def value(config: Config, key: str) -> Any:
    """The value of `section.field`, or `section.field.entry` of a table; tables of sections as plain ones."""
    section, field, *entry = key.split(".", 2)
    found = getattr(getattr(config, section), field)
    if entry:
        return found[entry[0]]
    if not isinstance(found, dict):
        return found
    return {k: v.model_dump(exclude_defaults=True) if isinstance(v, Section) else v for k, v in found.items()}


def replace(config: Config, values: Mapping[str, Any]) -> Config:
    """The config with other values, by keys as `value` takes them, unchecked: arrays may stand for numbers."""
    for key, other in values.items():
        section, field, *entry = key.split(".", 2)
        part = getattr(config, section)
        changed = {**getattr(part, field), entry[0]: other} if entry else other
        config = config.model_copy(update={section: part.model_copy(update={field: changed})})
    return config
