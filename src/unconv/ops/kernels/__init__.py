"""Ways to compute a transposed convolution, one a file. All of them give the same.

Each takes (N, in, samples..) and returns (N, out, size..): `size` samples from `first` on, along each axis, of the full
result, which has (samples - 1) stride + extent; zeros where that has ended. Who calls them chooses the one that is
fastest for the sizes at hand: `ops.adjoint` and `reverse.transposed`.
"""
