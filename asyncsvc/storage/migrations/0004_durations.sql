-- A wait that stands for a duration is stored with when it was set, so that a clock which is set
-- back cannot make it longer than it is.
ALTER TABLE callbacks ADD COLUMN set_at INTEGER;
UPDATE callbacks SET set_at = next_at WHERE state = 'pending';

-- Whether `run_at` came from `delay_s`: a duration, and no moment.
ALTER TABLE tasks ADD COLUMN delayed INTEGER;
