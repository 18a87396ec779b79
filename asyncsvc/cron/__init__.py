"""Schedules: tasks that are submitted again and again by a cron expression in a time zone.

May be imported: `schedules.Schedules` (the runner), `schedule` (one schedule), `crontab`.
"""
