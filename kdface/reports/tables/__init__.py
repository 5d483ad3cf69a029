"""Paper tables as a build target: a definition and run folders in; Markdown, LaTeX, CSV and HTML out."""

from kdface.reports.tables.collect import collect
from kdface.reports.tables.definition import Definition, read_definition
from kdface.reports.tables.table import Table, tabulate

__all__ = ["Definition", "Table", "collect", "read_definition", "tabulate"]
