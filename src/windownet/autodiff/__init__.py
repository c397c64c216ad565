"""A hand-written reverse mode and its proof, usable on its own: it knows nothing of language or training."""

from windownet.autodiff import ops
from windownet.autodiff.graph import Node, Op, backward, grad, primal, record, value_and_grad, vjp
from windownet.autodiff.rows import RowSparse

__all__ = ["Node", "Op", "RowSparse", "backward", "grad", "ops", "primal", "record", "value_and_grad", "vjp"]
