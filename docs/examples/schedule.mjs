// A task every weekday at nine in Berlin; summer time is taken care of.
//
// Start it: node schedule.mjs "What is new?"
//
// The schedule has a name, so that starting this again changes it and makes no second one. What was missed
// while the service was stopped is made up for by one task. `unschedule ID` ends it.
const url = process.env.ASYNCSVC_URL ?? "http://127.0.0.1:8000";
const answer = await fetch(`${url}/schedules`, {
  method: "POST",
  headers: { Authorization: `Bearer ${process.env.ASYNCSVC_TOKEN ?? "none"}` },
  body: JSON.stringify({
    name: "weekday-news",
    cron: "0 9 * * 1-5",
    timezone: "Europe/Berlin",
    task: { content: process.argv[2], lane: "long" },
  }),
});
if (!answer.ok) throw new Error(await answer.text());
const schedule = await answer.json();
console.log(schedule.schedule_id, "next:", schedule.next_run_at);
