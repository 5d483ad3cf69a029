"""Paper tables as a build target: from a definition and run folders to Markdown, LaTeX, CSV and HTML."""

from kdface.reports.tables.collect import collect
from kdface.reports.tables.definition import Definition, read_definition
from kdface.reports.tables.table import Table, tabulate

__all__ = ["Definition", "Table", "collect", "read_definition", "tabulate"]
