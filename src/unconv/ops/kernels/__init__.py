"""Algorithms for the transposed convolution, one in each file. All of them give the same result.

Each takes (N, in, samples..) and returns (N, out, size..). Along each axis, the full result has (samples - 1) stride + extent
samples. The functions return `size` of them, from `first` on, with zeros beyond the end. Their callers, `ops.adjoint` and
`reverse.transposed`, choose the one that is fastest for the sizes at hand.
"""
