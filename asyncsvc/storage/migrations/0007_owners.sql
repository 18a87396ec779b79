-- Whose file it is. Files from before belong to nobody: only an administrator sees them.
ALTER TABLE files ADD COLUMN owner TEXT;
CREATE INDEX files_by_owner ON files (owner, n) WHERE owner IS NOT NULL;

CREATE INDEX tasks_by_owner ON tasks (owner, n) WHERE owner IS NOT NULL;
