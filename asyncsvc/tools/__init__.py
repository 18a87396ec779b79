"""The tools of agent tasks: what each takes, what it does in a workspace, and which are allowed.

Import `registry` for the tools that the settings allow and for a call of one, `tool` for what a
tool is, and `workspace` for the folder that it works in. All else belongs to the package.
"""
