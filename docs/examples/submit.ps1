# Submit a task so that nothing can lose it, and wait for its answer.
#
# Start it: pwsh submit.ps1 "What is a queue?"
#
# Once the service has answered, the task is on its disk. If that answer is lost on its way, the same
# request is sent again: the Idempotency-Key makes it find the task that is there already.
param([Parameter(Mandatory)][string]$Prompt)
$ErrorActionPreference = "Stop"
$url = if ($env:ASYNCSVC_URL) { $env:ASYNCSVC_URL } else { "http://127.0.0.1:8000" }
$token = if ($env:ASYNCSVC_TOKEN) { $env:ASYNCSVC_TOKEN } else { "none" }
$headers = @{ Authorization = "Bearer $token" }
$id = $null

$once = $headers + @{ "Idempotency-Key" = [guid]::NewGuid().ToString() }
$body = @{ content = $Prompt } | ConvertTo-Json
while (-not $id) {
    try {
        $id = (Invoke-RestMethod "$url/tasks" -Method Post -Headers $once -Body $body `
                -ContentType "application/json").task_id
    }
    catch [Microsoft.PowerShell.Commands.HttpResponseException] {
        $wait = $_.Exception.Response.Headers.RetryAfter.Delta # the service says when it is worth it
        if ($null -eq $wait) { throw }
        Start-Sleep -Seconds $wait.TotalSeconds
    }
    catch [System.Net.Http.HttpRequestException] { Start-Sleep -Seconds 1 }
}
Write-Host $id

# This stream ends when the task has ended. It may be left and come back to: see follow.ps1.
$stream = $headers + @{ Accept = "text/event-stream" }
Invoke-WebRequest "$url/tasks/$id/events" -Headers $stream | Out-Null
$task = Invoke-RestMethod "$url/tasks/$id" -Headers $headers
if ($task.status -ne "completed") { throw "$($task.status): $($task.error.message)" }
$task.result
