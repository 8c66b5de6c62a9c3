"""The walk: the tape from end to start, many units at a time."""
