"""Agents: what has become of an agent's steps and calls, and the conversation that follows.

Import `history` for the steps, calls and decisions of an agent, `conversation` for what its model
is sent, and `textual` for models that cannot call tools. All else belongs to the package.
"""
