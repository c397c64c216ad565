"""A hand-written reverse mode and its proof, usable on its own: it knows nothing of language or training."""

import importlib
from typing import TYPE_CHECKING, Any

from windownet.autodiff import ops
from windownet.autodiff.bridge import as_custom_vjp
from windownet.autodiff.graph import Node, Op, backward, grad, primal, record, value_and_grad, vjp
from windownet.autodiff.rows import RowSparse

if TYPE_CHECKING:
    from windownet.autodiff.check import check_custom_vjp, check_gradients, check_op
    from windownet.autodiff.report import Report

__all__ = [
    "Node",
    "Op",
    "Report",
    "RowSparse",
    "as_custom_vjp",
    "backward",
    "check_custom_vjp",
    "check_gradients",
    "check_op",
    "grad",
    "ops",
    "primal",
    "record",
    "value_and_grad",
    "vjp",
]

# The checker brings what draws its tables, which a tagger has no use for: it is imported when it is asked for.
_CHECKER = {"Report": "report", "check_custom_vjp": "check", "check_gradients": "check", "check_op": "check"}


def __getattr__(name: str) -> Any:
    if name not in _CHECKER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_CHECKER[name]}"), name)
