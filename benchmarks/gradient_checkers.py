"""Which planted faults each gradient checker catches: windownet's, jax's, chex's and torch's in its fast mode.

The faults are those of the test suite. Every checker runs with its default settings; jax's and chex's run in float32
and in float64 and get the better of the two, torch's runs in float64, which it requires. A fault counts as caught where
the checker refuses the wrong rule and accepts the right one at the same inputs.
"""

import functools
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np

import _report
from windownet.autodiff import Op
from windownet.autodiff.proof.problem import Problem, float64_on_host
from windownet.autodiff.proof.subjects import model_problem, op_problem

sys.path.insert(0, str(_report.ROOT / "tests" / "autodiff"))
import faults

TARGET = 5

Checker = Callable[[faults.Case], list[bool]]


def ours(case: faults.Case) -> list[bool]:
    """Whether windownet accepts a case."""
    return [case.check().ok]


def by_jax(case: faults.Case) -> list[bool]:
    """Whether `jax.test_util.check_grads` accepts a case, in each precision."""
    return _in_each_dtype(case, lambda f, args: jax.test_util.check_grads(f, args, order=1, modes=("rev",)))


def by_chex(case: faults.Case) -> list[bool]:
    """Whether `chex.assert_numerical_grads` accepts a case, in each precision."""
    import chex

    return _in_each_dtype(case, lambda f, args: chex.assert_numerical_grads(f, args, order=1, modes=("rev",)))


def by_torch(case: faults.Case) -> list[bool]:
    """Whether `torch.autograd.gradcheck(fast_mode=True)` accepts a case."""
    import torch

    problem = _problem(case)

    class Function(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, *leaves: Any) -> Any:
            ctx.save_for_backward(*leaves)
            with float64_on_host():
                return torch.from_numpy(np.array(problem.forward(_arrays(leaves), problem.others)[0]))

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            with float64_on_host():
                cotangents = problem.hand(_arrays(ctx.saved_tensors), problem.others, _arrays([g]))
                return tuple(torch.from_numpy(np.array(c)) for c in cotangents)

    leaves = [torch.from_numpy(np.array(x)).requires_grad_() for x in problem.leaves]
    return [_accepts(lambda: torch.autograd.gradcheck(Function.apply, leaves, fast_mode=True))]


CHECKERS: Mapping[str, Checker] = {
    "windownet": ours,
    "jax check_grads": by_jax,
    "chex assert_numerical_grads": by_chex,
    "torch gradcheck, fast": by_torch,
}


def _problem(case: faults.Case) -> Problem:
    with float64_on_host():
        if isinstance(case.subject, Op):
            return op_problem(case.subject, case.inputs, case.static)
        params, *batch = case.inputs
        return model_problem(case.subject, params, tuple(batch), None)


def _arrays(tensors: Any) -> list[Any]:
    return [jnp.asarray(t.detach().numpy()) for t in tensors]


def _in_each_dtype(case: faults.Case, check: Callable[[Any, Any], None]) -> list[bool]:
    problem = _problem(case)

    @jax.custom_vjp
    def with_rule(*leaves: Any) -> Any:
        return problem.forward(leaves, problem.others)[0]

    with_rule.defvjp(
        lambda *leaves: (with_rule(*leaves), leaves),
        lambda leaves, g: tuple(problem.hand(leaves, problem.others, [g])),
    )

    def function(*leaves: Any) -> Any:
        # These checkers call with arrays of numpy, on which an op may not be written to run.
        return with_rule(*map(jnp.asarray, leaves))

    accepted = []
    for dtype, wide in ((np.float32, False), (np.float64, True)):
        with jax.enable_x64(wide):
            leaves = tuple(jnp.asarray(x.astype(dtype)) for x in problem.leaves)
            accepted.append(_accepts(functools.partial(check, function, leaves)))
    return accepted


def _accepts(check: Callable[[], Any]) -> bool:
    # Any error of the wrong rule counts in the checker's favour: it did not pass in silence.
    try:
        check()
    except Exception:
        return False
    return True


def main() -> int:
    """Run every checker on every fault; write who catches what."""
    arguments = _report.parser(__doc__).parse_args()
    warnings.simplefilter("ignore")
    _require_peers()
    caught: dict[str, set[str]] = {name: set() for name in CHECKERS}
    refused: dict[str, set[str]] = {name: set() for name in CHECKERS}
    seconds = dict.fromkeys(CHECKERS, 0.0)
    lines = ["| fault | what is wrong | " + " | ".join(CHECKERS) + " |", "|" + "---|" * (2 + len(CHECKERS))]
    for fault in faults.FAULTS.values():
        cells = []
        for name, accepts in CHECKERS.items():
            start = time.perf_counter()
            right, wrong = accepts(fault.right()), accepts(fault.build())
            seconds[name] += (time.perf_counter() - start) / len(right)
            if not any(right):
                refused[name].add(fault.name)
            if any(r and not w for r, w in zip(right, wrong, strict=True)):
                caught[name].add(fault.name)
            missed = "missed" if any(right) else "refuses the right one too"
            cells.append("caught" if fault.name in caught[name] else missed)
        lines.append(f"| {fault.name} | {fault.wrong} | " + " | ".join(cells) + " |")
    alone = caught["windownet"].difference(*(found for name, found in caught.items() if name != "windownet"))
    lines += ["", f"Caught by no other checker: {', '.join(sorted(alone))}.", "", ""]
    _report.write(_results(caught, refused, seconds), arguments, "\n".join(lines))
    return 0


def _require_peers() -> None:
    try:
        import chex  # noqa: F401
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        _report.refuse(f"required {error.name} to compare with, found none; install it with `make install-bench`")


def _results(
    caught: Mapping[str, set[str]], refused: Mapping[str, set[str]], seconds: Mapping[str, float]
) -> list[dict[str, Any]]:
    mine, *others = CHECKERS
    total, of_all = len(faults.FAULTS), f"of {len(faults.FAULTS)}"
    accepted = {name: total - len(refused[name]) for name in CHECKERS}
    each = {name: seconds[name] / (2 * total) for name in CHECKERS}
    rows = []
    for peer in others:
        theirs = len(caught[peer])
        rows.append(_report.row("faults caught", len(caught[mine]), of_all, peer=(peer, theirs), at_least=total))
    alone = caught[mine].difference(*(caught[peer] for peer in others))
    rows.append(_report.row("faults that no other catches", len(alone), "faults", at_least=TARGET))
    for peer in others:
        missed = caught[peer] - caught[mine]
        rows.append(_report.row(f"faults missed that {peer} catches", len(missed), "faults", at_most=0))
    for peer in others:
        right = (peer, accepted[peer])
        rows.append(_report.row("right rules accepted", accepted[mine], of_all, peer=right, at_least=total))
    for peer in others:
        rows.append(_report.row("time of a check", each[mine], "s", peer=(peer, each[peer])))
    return rows


if __name__ == "__main__":
    sys.exit(main())
