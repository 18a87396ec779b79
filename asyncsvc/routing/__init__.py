"""Routing: the class of a prompt, by fields first and text second, and the models for that class.

May be imported: `router.Router`; classifier and features are its parts.
"""
