"""Monitoring: alarms on memory, disk, event loop and descriptors, and the history of a task.

May be imported: `monitor.Monitor`, `alarms`, `figures` (over time), `explain`, `model_log` and
`task_log` (lines of the log), `spans` and `otel` (OpenTelemetry); the rest is for this package.
"""
