"""Other systems that do the same work, each a program for a Python environment of its own.

They know nothing of the product. Their libraries are imported by name, as they are not installed
where the types are checked.
"""
