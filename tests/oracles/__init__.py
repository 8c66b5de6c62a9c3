"""Slow and right: what the fast code must agree with."""
