"""Routes for operators: health, metrics, reload, model pause, backup, export and import.

Each module has `ROUTES`; `metrics.ROWS` is the table of all metrics.
"""
