-- An Idempotency-Key stands for the tasks numbered `task_n` to `last_n`, or for something that is
-- no task and whose id is `made`. It lives as long as any of the tasks, or as that thing.
ALTER TABLE idempotency RENAME TO idempotency_before;

CREATE TABLE idempotency (
    key         TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    task_n      INTEGER,
    last_n      INTEGER,
    made        TEXT,
    answer      TEXT NOT NULL
) STRICT;

-- A batch's tasks have numbers in a row, and its key has the answers of all of them.
INSERT INTO idempotency (key, fingerprint, task_n, last_n, answer)
    SELECT key, fingerprint, task_n, task_n + MAX(json_array_length(answer), 1) - 1, answer
    FROM idempotency_before;

DROP TABLE idempotency_before;

CREATE INDEX idempotency_by_task ON idempotency (task_n) WHERE task_n IS NOT NULL;
CREATE INDEX idempotency_by_made ON idempotency (made) WHERE made IS NOT NULL;

-- `task_n` is the first task that is left.
CREATE TRIGGER task_leaves_key AFTER DELETE ON tasks BEGIN
    UPDATE idempotency
        SET task_n = (SELECT MIN(n) FROM tasks WHERE n > OLD.n AND n <= last_n)
        WHERE task_n = OLD.n
        AND EXISTS (SELECT 1 FROM tasks WHERE n > OLD.n AND n <= last_n);
    DELETE FROM idempotency WHERE task_n = OLD.n;
END;

CREATE TRIGGER schedule_leaves_key AFTER DELETE ON kept WHEN OLD.kind = 'schedule' BEGIN
    DELETE FROM idempotency WHERE made = OLD.key;
END;

CREATE TRIGGER file_leaves_key AFTER UPDATE OF state ON files WHEN NEW.state = 'gone' BEGIN
    DELETE FROM idempotency WHERE made = NEW.id;
END;

CREATE TRIGGER batch_leaves_key AFTER DELETE ON batches BEGIN
    DELETE FROM idempotency WHERE made = OLD.id;
END;
