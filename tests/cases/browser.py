"""Where tests of pages find a browser."""

from pathlib import Path

CHROMIUM = Path("/usr/bin/chromium")
