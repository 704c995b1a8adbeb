"""Measure a system as the papers do: test lists, judges, rows, reports."""
