"""Write a report: a folder of pages on one picture, a network's layers, and their most active units."""

from unconv.progress import Progress
from unconv.report.pages import refuse_folder, report, reports
from unconv.reverse.request import Request

__all__ = ["Progress", "Request", "refuse_folder", "report", "reports"]
