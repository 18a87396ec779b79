-- What follows on the first part of a long body, in pieces, written in commits before the one that
-- stores the task, which has no number by then. They count where `rest` says so: how many bytes they
-- have in all.
CREATE TABLE body_parts (
    task_id TEXT NOT NULL,
    at      INTEGER NOT NULL, -- the byte of the whole body with which the part begins
    part    BLOB NOT NULL,
    PRIMARY KEY (task_id, at)
) STRICT;

ALTER TABLE bodies ADD COLUMN rest INTEGER NOT NULL DEFAULT 0;
