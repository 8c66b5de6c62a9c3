"""A folder of pages: one picture, the layers of one network, their most active units."""

from unconv.progress import Progress
from unconv.report.pages import refuse_folder, report, reports
from unconv.reverse.request import Request

__all__ = ["Progress", "Request", "refuse_folder", "report", "reports"]
