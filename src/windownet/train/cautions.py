"""What of a run is allowed, but probably not meant."""

import jax

from windownet.data.misread import misread
from windownet.data.vocabulary import RARE
from windownet.optim import by_path
from windownet.optim.build import TABLE
from windownet.settings.fields import unused
from windownet.train.prepare import Prepared


def cautions(prepared: Prepared) -> list[str]:
    """One line for each thing to look at before the run is trusted."""
    config, found = prepared.config, unused(prepared.config)
    found += [f"data.train: {message}" for _, message in misread(config.data, prepared.splits.train)]
    if config.init.weights == "zeros":
        found.append(
            "init.weights = 'zeros' gives all units of a layer the same gradient at every step, so that they stay "
            "equal; take another for anything but a network without hidden layers"
            if config.model.hidden
            else "init.weights = 'zeros': the vectors of words get no gradient in the first step"
        )
    name, decay = config.optimizer.name, config.optimizer.weight_decay
    if name == "adamw" and not decay:
        found.append("optimizer.name = 'adamw' without optimizer.weight_decay is adam; 0.01 is usual")
    if name == "adam" and decay:
        found.append(
            f"optimizer.weight_decay = {decay:g} is decoupled, which makes optimizer.name = 'adam' adamw; "
            "regularization.l2 is the penalty in the loss"
        )
    found += prepared.splits.not_there
    if not any(tag != "O" for sentence in prepared.splits.dev for tag in sentence.tags):
        found.append(
            f"data.dev: no mention among its sentences, {len(prepared.splits.dev):,}, so that it tells no epoch from "
            "another and the first is kept as the best; take sentences with mentions"
        )
    if (prepared.train.words[prepared.train.positions] == RARE).all():
        found.append(
            f"features.min_count = {config.features.min_count:,}: no word of training text is that frequent, so that "
            "all are one to the network; lower it"
        )
    found += _of_shadowed_rates(prepared)
    found += _of_a_frozen_table(prepared)
    words = len(prepared.train.positions)
    size, parts = config.train.batch_size, config.train.accumulate
    if size * parts > words:
        asked = f"train.batch_size = {size:,}" + (f" times train.accumulate = {parts:,}" if parts > 1 else "")
        found.append(f"{asked} is more than the {words:,} training words: an epoch is one step, of them all")
    steps = config.train.epochs * prepared.epochs.steps
    others = {f"schedule.others.{key}": curve for key, curve in config.schedule.others.items()}
    found += [
        f"{place}.warmup = {curve.warmup:g} is less than half a step of this run's {steps:,}, so there is no warm-up"
        for place, curve in {"schedule": config.schedule, **others}.items()
        if curve.warmup and not round(curve.warmup * steps)
    ]
    found += [
        f"{place}.warmup = {curve.warmup:g} takes all of this run's {steps:,} steps: nothing is left for the schedule"
        for place, curve in {"schedule": config.schedule, **others}.items()
        if round(curve.warmup * steps) >= steps
    ]
    return found


def _of_shadowed_rates(prepared: Prepared) -> list[str]:
    rates = prepared.config.optimizer.rates
    if not rates:
        return []
    params = jax.eval_shape(prepared.network.init, jax.random.key(0))
    names = [by_path.name_of(path) for path, _ in jax.tree.leaves_with_path(params)]
    if all(by_path.factor(rates, name) == 0 for name in names):
        return ["optimizer.rates: they are 0 for all parameters, so that nothing is trained"]
    return [
        f"optimizer.rates: {pattern!r} has no effect, as all that it matches goes by {' and '.join(map(repr, earlier))}"
        " before it; put it first"
        for pattern, earlier in by_path.shadowed(rates, params).items()
    ]


def _of_a_frozen_table(prepared: Prepared) -> list[str]:
    config = prepared.config
    if prepared.words.frozen_epochs < config.train.epochs:
        return []
    idle = {}
    if config.words.anchor:
        idle["words.anchor"] = f"{config.words.anchor:g}"
    if TABLE in config.optimizer.rates:
        idle["optimizer.rates"] = f"{{{TABLE} = {config.optimizer.rates[TABLE]:g}}}"
    if config.optimizer.weight_decay and not by_path.matches(config.optimizer.undecayed, TABLE):
        idle["optimizer.weight_decay"] = f"{config.optimizer.weight_decay:g}"
    return [f"{key} = {given} does nothing to the word table, which stays frozen" for key, given in idle.items()]
