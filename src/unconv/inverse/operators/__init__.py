"""Linear operators with exact adjoints: convolutions, selections of samples, and their compositions."""
