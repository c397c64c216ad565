"""A hand-written reverse mode and its proof, usable on its own: it knows nothing of language or training."""

from windownet.autodiff import ops
from windownet.autodiff.bridge import as_custom_vjp
from windownet.autodiff.check import check_custom_vjp, check_gradients, check_op
from windownet.autodiff.graph import Node, Op, backward, grad, primal, record, value_and_grad, vjp
from windownet.autodiff.report import Report
from windownet.autodiff.rows import RowSparse

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
