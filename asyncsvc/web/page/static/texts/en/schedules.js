/** Words of the recurring tasks. */
export default {
  "schedules.title": "Schedules",
  "schedules.sum": { one: "{count} task is submitted again and again.", other: "{count} tasks are submitted again and again." },
  "schedules.none":
    "No schedule yet. A schedule submits the same task at the times of a cron expression, in a time zone of your choice, and goes on after a restart.",
  "schedules.make": "New schedule",
  "schedules.what": "Task",
  "schedules.when": "When",
  "schedules.next": "Next run",
  "schedules.last": "Last run",
  "schedules.runs": "Runs",
  "schedules.never": "never again",
  "schedules.not_yet": "not yet",
  "schedules.its_task": "its task",
  "schedules.change": "Change",
  "schedules.delete": "Delete",
  "schedules.keep": "Keep it",
  "schedules.delete_it": "Delete “{name}”",
  "schedules.change_one": "Change the schedule {name}",
  "schedules.delete_one": "Delete the schedule {name}",
};
