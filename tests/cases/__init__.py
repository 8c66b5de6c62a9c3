"""What is tested: networks, small modules for each operation, operators. Read by tests, docs and benchmarks."""
