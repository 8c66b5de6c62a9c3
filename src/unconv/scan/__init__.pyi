from .data_set import scan, scan_part
from .index import Fires, Found, Index, ScannedPicture, Similar, UnitStatistics
from .top import Top, merge

__all__ = ["Fires", "Found", "Index", "ScannedPicture", "Similar", "Top", "UnitStatistics", "merge", "scan", "scan_part"]
