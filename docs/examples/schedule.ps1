# A task every weekday at nine in Berlin; summer time is taken care of.
#
# Start it: pwsh schedule.ps1 "What is new?"
#
# The schedule has a name, so that starting this again changes it and makes no second one. What was missed
# while the service was stopped is made up for by one task. `unschedule ID` ends it.
param([Parameter(Mandatory)][string]$Prompt)
$ErrorActionPreference = "Stop"
$url = if ($env:ASYNCSVC_URL) { $env:ASYNCSVC_URL } else { "http://127.0.0.1:8000" }
$token = if ($env:ASYNCSVC_TOKEN) { $env:ASYNCSVC_TOKEN } else { "none" }

$body = @{
    name     = "weekday-news"
    cron     = "0 9 * * 1-5"
    timezone = "Europe/Berlin"
    task     = @{ content = $Prompt; lane = "long" }
} | ConvertTo-Json
$schedule = Invoke-RestMethod "$url/schedules" -Method Post -Headers @{ Authorization = "Bearer $token" } `
    -Body $body -ContentType "application/json"
# PowerShell has made a time of the text.
"$($schedule.schedule_id) next: $($schedule.next_run_at.ToString('yyyy-MM-ddTHH:mm:ss.fffZ'))"
