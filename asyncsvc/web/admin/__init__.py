"""Routes for operators: `health`, `metrics`, `figures`, `settings`, `commands`, `transfer`.

`figures` are those over time, `commands` reload and pause a model, `transfer` is backup, export
and import. Each module has `ROUTES`; `metrics.ROWS` is the table of
all metrics.
"""
