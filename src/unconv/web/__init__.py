"""A site of an index: a page for every unit."""

from unconv.web.writing import write_site, zipped

__all__ = ["write_site", "zipped"]
