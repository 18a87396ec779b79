"""The SQLite database: the only package with SQL.

Owns the file, its connections, schema, rows, backups and purging. Import `database.Store`, the
rows of `columns` and `statements`, and the modules of one table each: `webhooks`, `files`,
`batches`, `responses`. `connection` is for this package alone.
"""
