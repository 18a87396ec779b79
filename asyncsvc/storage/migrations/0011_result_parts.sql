-- What follows on the first part of a long result, in pieces, written in commits before the one that
-- ends the task. They count where `rest` says so: how many bytes they have in all.
CREATE TABLE result_parts (
    task_n INTEGER NOT NULL REFERENCES tasks (n) ON DELETE CASCADE,
    at     INTEGER NOT NULL, -- the byte of the whole result with which the part begins
    part   TEXT NOT NULL,
    PRIMARY KEY (task_n, at)
) STRICT;

ALTER TABLE results ADD COLUMN rest INTEGER NOT NULL DEFAULT 0;
