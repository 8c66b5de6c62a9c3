"""Solvers: from an operator and what was observed to iterates. They know forward and adjoint, nothing else."""
