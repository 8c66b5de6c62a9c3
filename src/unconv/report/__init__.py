"""A folder of pages: one picture, the layers of one network, their most active units."""

from unconv.report.pages import refuse_folder, report, reports
from unconv.report.picture import Progress
from unconv.report.request import Request

__all__ = ["Progress", "Request", "refuse_folder", "report", "reports"]
