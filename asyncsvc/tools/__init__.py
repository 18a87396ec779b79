"""The tools of agent tasks: what each takes, what it does in a workspace, and which are allowed.

Import `registry` for the toolbox and for a call of a tool, `tool` for what a tool is, `execute`,
`files` and `memory` for the tools themselves, `mcp_servers` for those of MCP servers, `workspace`
for a folder that tools work in, and `task_workspaces` for those of agent tasks. All else belongs to
the package.
"""
