"""A gradient checker that names what is wrong: three witnesses, kinks understood, every tolerance stated.

`check_op`, `check_custom_vjp` and `check_gradients` compare a hand-written rule with `jax.vjp` of the forward in every
entry and with central differences where they tell, in float64 whatever the caller's dtypes and settings. Each returns
a `Report`; in a test, `check_op(op, x).raise_if_wrong()` is the whole of it.

What else a rule owes is a duty each, named in the report. One of them, non-finite in, non-finite out: where a NaN or
infinity in an input makes the value not finite, or is in the upstream gradient, what depends on it may be finite only
where jax's own derivative is, and in the ops of this package not at all. Beside float64 a rule is tried in float32 and
bfloat16 (a model in float32) and in the dtypes that it was given; a dtype that the function or jax's own derivative
does not run in is not owed.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windownet.autodiff import graph
from windownet.autodiff.proof import duties, trials
from windownet.autodiff.proof.differences import Differences, Progress
from windownet.autodiff.proof.dtypes import in_dtypes
from windownet.autodiff.proof.kinks import TOGETHER, judge_together
from windownet.autodiff.proof.leaves import Gradients, examine
from windownet.autodiff.proof.non_finite import NON_FINITE, non_finite
from windownet.autodiff.proof.problem import (
    Floats,
    Problem,
    evaluate,
    flat,
    float64_on_host,
    jit_quickly,
    jittered,
    largest,
)
from windownet.autodiff.proof.recorded import examine_ops
from windownet.autodiff.proof.subjects import function_problem, model_problem, op_problem
from windownet.autodiff.proof.verdicts import EXACT, MAX_KINK_SHARE, ROUNDINGS, errors, moved_by_rounding, natural_size
from windownet.autodiff.report import Comparison, LeafReport, Report, worst_of

VALUE = "value"
KINKS = "share of kinks"

_NEARER, _STEEPEST = 0.01, 1e3


def check_op(op: graph.Op, *inputs: Any, seed: int = 0, **static: Any) -> Report:
    """Prove the rule of an op, or find what is wrong with it.

    Args:
      op: an op with its hand-written rule.
      *inputs: where to check it. Choose hard ones: repeated ids, sizes that differ, saturations.
      seed: what upstream cotangents, directions and coordinates are drawn from.
      **static: the op's keyword arguments.

    Returns:
      A report with one row a floating input, named as the op's forward names it, and the rule's duties.

    Raises:
      TypeError: `op` is not an op, no input is floating, one is complex, jax.vjp cannot differentiate the forward, or
        it does not compute in its inputs' dtype and return one floating array of it.
      ValueError: the forward is not deterministic.
    """
    if not isinstance(op, graph.Op):
        raise TypeError(f"check_op: an Op is required, got {type(op).__name__}; check_custom_vjp takes other functions")
    with float64_on_host():
        return _check_rule(op_problem(op, inputs, static), seed)


def check_custom_vjp(f: Any, *args: Any, seed: int = 0) -> Report:
    """Prove the rule of a `jax.custom_vjp` function, or of any pair of a function and its hand-written VJP.

    Args:
      f: a function decorated with `jax.custom_vjp` whose rule is defined; or a pair `(forward, vjp)`, where
        `vjp(g, *args)` returns a tuple with one cotangent an argument, None or zeros of `float0` for one that has
        none.
      *args: pytrees, where to check it. What `nondiff_argnums` names is passed on as it is.
      seed: what upstream cotangents, directions and coordinates are drawn from.

    Returns:
      A report with one row a floating leaf of the arguments, and the rule's duties.

    Raises:
      TypeError: `f` is neither, no leaf is floating, a leaf or an output is complex, jax.vjp cannot differentiate the
        forward, or it does not compute in its arguments' dtype and return floating arrays of it.
      ValueError: the function is not deterministic.
    """
    with float64_on_host():
        return _check_rule(function_problem(f, args), seed)


def check_gradients(
    loss: Callable[..., Any],
    params: Any,
    *batch: Any,
    reference: Callable[..., Any] | None = None,
    rows: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Prove the gradient of a whole model: `windownet.autodiff.grad(loss)` beside jax's and central differences.

    Args:
      loss: `loss(params, *batch)` in the ops of `windownet.autodiff`, one floating scalar; called with recorded
        parameters for our gradient and with plain arrays for the other two. What it computes must follow its
        arguments' dtype.
      params: a pytree of floating arrays.
      *batch: pytrees of arrays, not differentiated.
      reference: the same function in plain jax, for an independent second witness; by default `jax.grad` of `loss`.
      rows: the rows at which a table is read, by its leaf's name; its other rows must have gradient zero exactly. By
        default the rows that the loss does not notice are found by replacing them.
      seed: what directions, coordinates and upstream cotangents are drawn from.
      progress: called as `progress(done, total, what)` while differences are taken.

    Returns:
      A report with one row a leaf, named by its path: `layers.0.weight`.

    Raises:
      TypeError: a leaf is not floating, the loss is not one floating scalar that follows its parameters' dtype, or
        `reference` does not take the same arguments.
      ValueError: the loss is not finite or not deterministic; or `rows` leaves out a row that it reads, or names an
        unknown leaf or a row that its leaf has not.
    """
    with float64_on_host():
        rng = np.random.default_rng(seed)
        problem = model_problem(loss, params, batch, reference)
        touched = _touched(problem, rows or {})
        one = [np.ones(())]
        differences = Differences(problem, one, progress)
        _require_deterministic(problem, differences, traced=False)
        if not np.isfinite(differences.value).all():
            raise ValueError(f"check_gradients: a finite loss is required, got {differences.value[0]}")
        value = _same_value(problem, differences)
        if value is not None and not value.ok:
            _require_deterministic(problem, differences, traced=True)
        hand, witness = jax.jit(problem.hand), jit_quickly(problem.witness)
        try:
            by_hand = evaluate(hand, problem.leaves, problem.others, one)
        except Exception as error:
            return _refused(problem, seed, duties.CONTRACT, error)
        gradients = _gradients(problem, by_hand, witness, one, differences.value)
        leaves, _ = examine(problem, gradients, differences, rng, touched)
        again = evaluate(hand, problem.leaves, problem.others, one)
        found = {
            VALUE: value,
            KINKS: _share_of_kinks(leaves),
            duties.LINEAR: duties.linear_for_a_scalar(problem, hand, gradients, rng),
            duties.ZERO: duties.zero(problem, hand, one, gradients),
            duties.DETERMINISTIC: duties.deterministic(problem, (by_hand, again)),
            **dict(in_dtypes(problem, (jnp.float32,), one, hand, gradients)),
        }
        ops = examine_ops(problem, seed, _examine_alone)
        return Report(problem.subject, seed, leaves, found, ops)


def _check_rule(problem: Problem, seed: int) -> Report:
    rng = np.random.default_rng(seed)
    outputs = problem.output_types()
    g = [rng.standard_normal(t.shape) for t in outputs]
    differences = Differences(problem, g, None)
    _require_deterministic(problem, differences, traced=True)
    try:
        eager, eager_again = (evaluate(problem.hand, *_on_device(problem), list(map(jnp.asarray, g))) for _ in range(2))
    except Exception as error:
        return _refused(problem, seed, duties.CONTRACT, error)
    hand, witness = jax.jit(problem.hand), jit_quickly(problem.witness)
    try:
        by_hand, again = (evaluate(hand, problem.leaves, problem.others, g) for _ in range(2))
    except Exception as error:
        return _refused(problem, seed, trials.JIT, error)
    gradients = _gradients(problem, by_hand, witness, g, differences.value)
    leaves, kinks = examine(problem, gradients, differences, rng, {})
    value = np.split(differences.value, np.cumsum([x.size for x in g])[:-1])
    shaped = [v.reshape(x.shape) for v, x in zip(value, g, strict=True)]
    found = {
        VALUE: _same_value(problem, differences),
        KINKS: _share_of_kinks(leaves),
        TOGETHER: judge_together(problem, differences, kinks, g, hand, witness, rng),
        **trials.transformed(problem, g, gradients, eager, witness, rng),
        duties.ZERO: duties.zero(problem, hand, g, gradients),
        duties.DETERMINISTIC: duties.deterministic(problem, (eager, eager_again), (by_hand, again)),
        duties.ORDER: duties.order_of_duplicates(problem, hand, g, gradients, shaped, rng),
        NON_FINITE: non_finite(problem, hand, witness, g, gradients, rng),
        **dict(in_dtypes(problem, (jnp.float32, jnp.bfloat16), g, hand, gradients)),
    }
    report = _of_op(problem.op, Report(problem.subject, seed, leaves, found))
    if not report.ok:
        _require_float64_inside(problem)
    return report


def _require_float64_inside(problem: Problem) -> None:
    # What rounds to float32 inside has no slope at a small step, and a right rule would be called wrong.
    y = flat(evaluate(problem.forward, [x * (1 + 1e-3 * np.pi) for x in problem.leaves], problem.others))
    with np.errstate(over="ignore"):
        rounded = y.astype(np.float32)
    if np.isfinite(rounded).all() and np.array_equal(y, rounded) and not np.array_equal(y, np.round(y)):
        raise TypeError(
            f"{problem.subject}: a function that computes in its arguments' dtype is required; of float64 it gives "
            "numbers with float32's digits; let what it casts to inside be at least as wide as its arguments"
        )


def _of_op(op: str, report: Report) -> Report:
    def named(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
        return tuple(dataclasses.replace(c, op=op) for c in comparisons)

    leaves = [dataclasses.replace(leaf, comparisons=named(leaf.comparisons)) for leaf in report.leaves]
    owed = {duty: None if c is None else named([c])[0] for duty, c in report.duties.items()}
    return dataclasses.replace(report, leaves=tuple(leaves), duties=owed)


def _examine_alone(problem: Problem) -> Comparison | None:
    rng = np.random.default_rng(0)
    g = [rng.standard_normal(t.shape) for t in problem.output_types()]
    differences = Differences(problem, g, None)
    hand, witness = jax.jit(problem.hand), jit_quickly(problem.witness)
    by_hand = evaluate(hand, problem.leaves, problem.others, g)
    gradients = _gradients(problem, by_hand, witness, g, differences.value)
    leaves, kinks = examine(problem, gradients, differences, rng, {})
    together = judge_together(problem, differences, kinks, g, hand, witness, rng)
    return worst_of([c for leaf in leaves for c in leaf.comparisons] + ([] if together is None else [together]))


def _refused(problem: Problem, seed: int, duty: str, error: Exception) -> Report:
    return _of_op(problem.op, Report(problem.subject, seed, (), {duty: duties.broken(duty, error)}))


def _on_device(problem: Problem) -> tuple[list[Any], list[Any]]:
    return list(map(jnp.asarray, problem.leaves)), list(map(jnp.asarray, problem.others))


def _gradients(
    problem: Problem, by_hand: list[Floats], witness: Callable[..., Any], g: list[Floats], value: Floats
) -> Gradients:
    try:
        by_jax = evaluate(witness, problem.leaves, problem.others, g)
    except Exception as error:
        raise TypeError(
            f"{problem.subject}: a forward that jax.vjp can differentiate is required, as the second witness; it "
            f"raised {type(error).__name__}: {str(error).strip().splitlines()[0]}. Pass the pair (forward, vjp) with "
            "a forward that it can, such as a lax.scan of fixed length in place of a while_loop"
        ) from error
    near = [evaluate(witness, jittered(problem.leaves, n), problem.others, jittered(g, n + 2)) for n in range(2)]
    moved = moved_by_rounding(by_jax, near)
    units = [natural_size(largest(flat(g)), largest(value), largest(x)) for x in problem.leaves]
    # Where a function is saturated its gradient does not tell how steep it is; nearer to zero it does.
    nearer = evaluate(witness, [_NEARER * x for x in problem.leaves], problem.others, g)
    natural = [max(n, min(largest(x), _STEEPEST * n)) for n, x in zip(units, nearer, strict=True)]
    return Gradients(by_hand, by_jax, moved, units, natural)


def _touched(problem: Problem, rows: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    if unknown := sorted(set(rows) - set(problem.names)):
        raise ValueError(f"rows: the name of a leaf is required ({', '.join(problem.names)}), got {', '.join(unknown)}")
    touched = {name: np.unique(np.asarray(ids)) for name, ids in rows.items()}
    for name, leaf in zip(problem.names, problem.leaves, strict=True):
        if name not in touched:
            continue
        if leaf.ndim != 2:
            raise ValueError(f"rows: a table [V, D] is required, leaf {name} has shape {list(leaf.shape)}")
        if (outside := touched[name][(touched[name] < 0) | (touched[name] >= len(leaf))]).size:
            raise ValueError(f"rows: rows 0 to {len(leaf) - 1} of leaf {name} are required, got {outside[0]}")
    return touched


def _require_deterministic(problem: Problem, differences: Differences, traced: bool) -> None:
    # Each pair of calls runs the same programs, so that even what is ill-conditioned repeats its bits. Without
    # compilation Python runs again: a number drawn while tracing is another one there.
    first, again = (flat(evaluate(problem.forward, *_on_device(problem)) if traced else []) for _ in range(2))
    if not differences.repeats or not np.array_equal(first, again, equal_nan=True):
        raise ValueError(f"{problem.subject}: a deterministic function is required; two calls gave different values")


def _same_value(problem: Problem, differences: Differences) -> Comparison | None:
    # The rule's own forward pass, and the reference's, must be the function whose gradient is taken.
    if problem.value is None:
        return None
    expected = differences.value
    if not expected.size:
        return None
    came = flat(evaluate(jit_quickly(problem.value), problem.leaves, problem.others)).reshape(-1, expected.size)
    error = errors(came, expected[None])
    tolerance = np.broadcast_to(EXACT * max(1.0, largest(expected)) + ROUNDINGS * differences.moved, error.shape)
    way, i = np.unravel_index(int(np.argmax(error / tolerance)), error.shape)
    numbers = (float(came[way, i]), float(expected[i]), float(error[way, i]), float(tolerance[way, i]))
    return Comparison(VALUE, "", "", *numbers, note="what the rule's own forward pass, or the reference, computes")


def _share_of_kinks(leaves: Sequence[LeafReport]) -> Comparison:
    coordinates = sum(leaf.coordinates for leaf in leaves)
    share = sum(leaf.kinks for leaf in leaves) / max(coordinates, 1)
    note = f"of {coordinates} coordinates"
    return Comparison(KINKS, "", "", share, 0.0, share, MAX_KINK_SHARE, note=note)
