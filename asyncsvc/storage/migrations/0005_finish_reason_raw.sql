-- The provider's own word for the end of an answer, beside OpenAI's.
ALTER TABLE tasks ADD COLUMN finish_reason_raw TEXT;

-- Answers that may be repeated are stored in another form from now on.
DELETE FROM kept WHERE kind = 'answer';
