"""Answers: from the bytes that providers send to deltas, embeddings and errors.

May be imported: `answer`, `delta`, `embeddings`, `frames`. Nothing here touches the network.
"""
