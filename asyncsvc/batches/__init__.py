"""Files and OpenAI batches: each input line becomes a task, each finished task an output line.

May be imported: `batches.Batches` (the runner) with its `steps`, `files` (uploads), `lines` (input
and output).
"""
