"""The views of a transposed convolution: each arranges the same numbers into a different story."""
