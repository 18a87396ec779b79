"""Schedules: tasks that are submitted again and again by a cron expression in a time zone.

Import `Schedules`, `Schedule` and `ScheduleRequest` from `schedules`; `crontab` is their part.
"""
