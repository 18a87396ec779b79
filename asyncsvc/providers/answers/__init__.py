"""Answers: from the bytes that providers send to deltas, embeddings and errors.

May be imported: `answer`, `chat_reading`, `delta`, `embeddings`, `frames`, `lenient_json`,
`pieces`, `size`; for a vendor's own protocol `finish_reasons`, `thinking`, `tool_calls`. Nothing
here touches the network.
"""
