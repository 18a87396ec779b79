"""OpenAI's API under `/v1`: chat, completions, responses, embeddings, models, files, batches.

Each request becomes tasks of this service; refusals have OpenAI's shape and statuses.
`batch_lines` serves the lines of a batch.
"""
