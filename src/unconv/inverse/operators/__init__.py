"""Linear maps with their exact adjoints."""
