"""OpenAI's API under `/v1`: chat, completions, responses, embeddings, models, files, batches.

A request becomes tasks of the service. May be imported: each module's `ROUTES`, and
`batches.endpoints`, which answers the lines of a batch. All else is the package's own.
"""
