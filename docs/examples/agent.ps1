# An agent that may read by itself, and waits for your approval before it writes a file.
#
# Start it: pwsh agent.ps1 "Write a haiku about queues into haiku.txt"
#
# It shows what the model says and which tools it calls, and asks you before each writing call. It waits
# as long as you like, also over a restart of the service.
param([Parameter(Mandatory)][string]$Prompt)
$ErrorActionPreference = "Stop"
$url = if ($env:ASYNCSVC_URL) { $env:ASYNCSVC_URL } else { "http://127.0.0.1:8000" }
$token = if ($env:ASYNCSVC_TOKEN) { $env:ASYNCSVC_TOKEN } else { "none" }
$headers = @{ Authorization = "Bearer $token" }

$body = @{
    type      = "agent"
    content   = $Prompt
    tools     = @("read_file", "list_directory", "write_file")
    approve   = @("write_file")
    max_steps = 10
} | ConvertTo-Json
$id = (Invoke-RestMethod "$url/tasks" -Method Post -Headers $headers -Body $body `
        -ContentType "application/json").task_id

$request = [System.Net.Http.HttpRequestMessage]::new("GET", "$url/tasks/$id/events")
$request.Headers.Add("Authorization", "Bearer $token")
$request.Headers.Add("Accept", "text/event-stream")
$answer = [System.Net.Http.HttpClient]::new().Send($request, "ResponseHeadersRead")
$reader = [System.IO.StreamReader]::new($answer.Content.ReadAsStream())
while ($null -ne ($line = $reader.ReadLine())) {
    if (-not $line.StartsWith("data: ")) { continue }
    $event_ = $line.Substring(6) | ConvertFrom-Json -Depth 50
    $data = $event_.data
    switch ($event_.type) {
        "chunk" { [Console]::Out.Write($data.text) }
        "tool_call" { Write-Host "`n> $($data.name) $($data.arguments | ConvertTo-Json -Compress)" }
        "approval" {
            if ($null -eq $data.decision) {
                $decision = if ((Read-Host "Let it? [y/N]") -eq "y") { "approve" } else { "deny" }
                $which = @{ id = $data.id } | ConvertTo-Json
                Invoke-RestMethod "$url/tasks/$id/$decision" -Method Post -Headers $headers -Body $which `
                    -ContentType "application/json" | Out-Null
            }
        }
    }
}
$files = (Invoke-RestMethod "$url/tasks/$id/files" -Headers $headers).files
Write-Host "`nfiles: $($files.path -join ', ')"
