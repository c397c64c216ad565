"""The ops: each module states an op's forward with its rule right beneath it; `OPS` is the table of them all.

To add one, write it in the module of its kind and hand it on here; give it samples in `tests/autodiff/op_samples.py`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from windownet.autodiff.graph import Op
from windownet.autodiff.ops.arithmetic import (
    add as add,
    affine as affine,
    divide as divide,
    exp as exp,
    log as log,
    matmul as matmul,
    maximum as maximum,
    mean as mean,
    minimum as minimum,
    multiply as multiply,
    negate as negate,
    sqrt as sqrt,
    square as square,
    subtract as subtract,
    sum as sum,
)
from windownet.autodiff.ops.dropout import (
    draw_mask as draw_mask,
    dropout as dropout,
)
from windownet.autodiff.ops.losses import (
    binary_logistic as binary_logistic,
    multiclass_margin as multiclass_margin,
    softmax_cross_entropy as softmax_cross_entropy,
    weighted_logistic as weighted_logistic,
)
from windownet.autodiff.ops.nonlinearities import (
    elu as elu,
    gelu as gelu,
    gelu_tanh as gelu_tanh,
    hard_tanh as hard_tanh,
    leaky_relu as leaky_relu,
    prelu as prelu,
    relu as relu,
    sigmoid as sigmoid,
    silu as silu,
    softplus as softplus,
    tanh as tanh,
)
from windownet.autodiff.ops.shapes import (
    concatenate as concatenate,
    reshape as reshape,
    slice as slice,
    transpose as transpose,
    where as where,
)
from windownet.autodiff.ops.tables import (
    embed as embed,
    take_rows as take_rows,
)

OPS: Mapping[str, Op] = MappingProxyType({op.name: op for op in list(globals().values()) if isinstance(op, Op)})
