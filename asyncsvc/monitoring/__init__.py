"""Monitoring: alarms on memory, disk, event loop and descriptors, and the history of a task.

May be imported: `monitor.Monitor`, `alarms`, `figures` (over time), `explain`, `why_slow` (all
tasks), `model_log` and `task_log` (lines of the log), `spans` and `otel` (OpenTelemetry).
"""
