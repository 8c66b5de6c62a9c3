"""Matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from unconv.networks.onnx.operators.table import operator


@operator("Gemm")
def gemm(
    a: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    broadcast: int = 0,
) -> Tensor:
    """Return alpha a @ weight + beta bias: a linear layer."""
    a = a.mT if transA else a
    if alpha == beta == 1 and (bias is None or bias.shape == (weight.shape[0 if transB else 1],)):
        return F.linear(a, weight if transB else weight.mT, bias)
    product = a @ (weight.mT if transB else weight)
    product = product if alpha == 1 else product * alpha
    return product if bias is None else product + (bias if beta == 1 else bias * beta)


@operator("MatMul")
def matmul(x: Tensor, weight: Tensor) -> Tensor:
    """Return x @ weight, as in numpy."""
    if weight.ndim == 2 and x.ndim > 2:
        return F.linear(x, weight.mT)  # recorded as one operation: a linear layer at each position
    return torch.matmul(x, weight)


@operator("Einsum")
def einsum(*inputs: Tensor, equation: str) -> Tensor:
    """Return a sum of products in Einstein's notation."""
    return torch.einsum(equation, *inputs)
