-- The trace context that a client has sent with a task (W3C Trace Context).
ALTER TABLE tasks ADD COLUMN traceparent TEXT;
ALTER TABLE tasks ADD COLUMN tracestate TEXT;
