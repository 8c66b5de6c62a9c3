"""Solvers: from an operator and observed samples to iterates. They use forward and adjoint, nothing else."""
