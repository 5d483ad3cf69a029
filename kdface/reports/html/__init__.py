"""The report: all runs under a folder in one self-contained HTML file."""
