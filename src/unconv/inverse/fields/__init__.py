"""Where signals were measured: thin front-ends, one a field."""
