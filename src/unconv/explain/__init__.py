"""Explanations: the steps of an operation as tensors, and their drawing as text, picture, animation or page."""

from unconv.explain.conv_transpose import Explanation, explain_conv2d_transpose
from unconv.explain.unpool import PoolExplanation, explain_unpool_avg, explain_unpool_max

__all__ = ["Explanation", "PoolExplanation", "explain_conv2d_transpose", "explain_unpool_avg", "explain_unpool_max"]
