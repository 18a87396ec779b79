"""Everything durable, in SQLite: the only package with SQL.

Import `protocol.Store` and `entries`, which know no database; `export` for tasks as JSON lines.
`database.Database` is for the application that opens it, `backup` and `lock` for the commands.
The other modules belong to this package.
"""
