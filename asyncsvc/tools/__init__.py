"""The tools of agent tasks: what each takes, what it does in a workspace, and which are allowed.

Import `registry` for the toolbox and for a call of a tool, `tool` for what a tool is, `workspace`
and `task_workspaces` for the folders of tasks, `execute`, `fetch`, `files` and `memory` for the
tools themselves, and `mcp_servers` for those of MCP servers. All else belongs to the package.
"""
