"""Results to pictures to HTML."""
