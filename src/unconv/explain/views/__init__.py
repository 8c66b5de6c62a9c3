"""The views of a transposed convolution: each tells the same numbers as another story."""
