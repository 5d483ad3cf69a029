"""The report: every run below a folder in one HTML file that needs no server and no network."""

from kdface.reports.html.page import report

__all__ = ["report"]
