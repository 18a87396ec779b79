"""Everything durable, in SQLite: the only package with SQL.

Import `protocol.Store` and `entries`, which know no database; `export` for tasks as JSON lines;
`refusals` for what is done about a damaged file. `database.Database` is for the application that
opens it; `audit`, `backup`, `lock`, `own_files`, `past` for commands. `room`: what may be written.
"""
