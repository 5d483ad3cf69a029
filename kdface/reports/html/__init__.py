"""The report: all runs under a folder in one self-contained HTML file."""

from kdface.reports.html.page import report

__all__ = ["report"]
