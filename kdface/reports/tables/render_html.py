"""A table as a self-contained HTML page: no script, no network, dark and light."""

from __future__ import annotations

from itertools import groupby

from kdface.reports.tables import text
from kdface.reports.tables.table import Table
from kdface.reports.templates import render


def html(table: Table, template: str = "table_page.html") -> str:
    """A complete page, or with the template "table.html" its content; tooltips of numbers show their runs."""
    return render(
        template,
        definition=table.definition,
        groups=[(group, list(found)) for group, found in groupby(table.columns, key=lambda column: column.group)],
        rows=text.rows(table),
        sentences=text.sentences(table),
        sections=text.sections(table),
        commands=text.commands(table),
        missing=text.MISSING,
        run_name=text.run_name,
    )
