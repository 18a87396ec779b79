-- From when on a task did what, for its trace; and how long it took to close the call of a stopped one.
ALTER TABLE tasks ADD COLUMN closed_ms INTEGER;
ALTER TABLE tasks ADD COLUMN marks TEXT;
