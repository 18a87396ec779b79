# Submit a task so that nothing can lose it, and wait for its answer.
#
# Start it: pwsh submit.ps1 "What is a queue?"
#
# Once the service has answered, the task is on its disk. PowerShell sends the request again where the answer
# is lost; the Idempotency-Key makes a repeated one find the task that is there already.
param([Parameter(Mandatory)][string]$Prompt)
$ErrorActionPreference = "Stop"
$url = if ($env:ASYNCSVC_URL) { $env:ASYNCSVC_URL } else { "http://127.0.0.1:8000" }
$token = if ($env:ASYNCSVC_TOKEN) { $env:ASYNCSVC_TOKEN } else { "none" }
$headers = @{ Authorization = "Bearer $token" }

$once = $headers + @{ "Idempotency-Key" = [guid]::NewGuid().ToString() }
$body = @{ content = $Prompt } | ConvertTo-Json
$id = (Invoke-RestMethod "$url/tasks" -Method Post -Headers $once -Body $body `
        -ContentType "application/json" -MaximumRetryCount 5 -RetryIntervalSec 1).task_id
Write-Host $id

# This stream ends when the task has ended. It may be left and come back to: see follow.ps1.
$stream = $headers + @{ Accept = "text/event-stream" }
Invoke-WebRequest "$url/tasks/$id/events" -Headers $stream | Out-Null
$task = Invoke-RestMethod "$url/tasks/$id" -Headers $headers
if ($task.status -ne "completed") { throw "$($task.status): $($task.error.message)" }
$task.result
