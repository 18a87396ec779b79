"""Routes for operators: `health`, `metrics`, `commands` (reload, pause of a model), `transfer`.

`transfer` is backup, export and import. Each module has `ROUTES`; `metrics.ROWS` is the table of
all metrics.
"""
