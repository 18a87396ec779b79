-- Which node runs a task, the number of its run, and until when the node may be believed to.
ALTER TABLE tasks ADD COLUMN node TEXT;
ALTER TABLE tasks ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN lease_until INTEGER;

-- The id of the node that this database belongs to: it outlives every process.
INSERT INTO kept VALUES ('node', 'id', 0, json_quote(lower(hex(randomblob(8)))));
