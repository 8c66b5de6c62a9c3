"""The `unconv` command: arguments to one library call, to print or write."""

from unconv.cli.app import app, main

__all__ = ["app", "main"]
