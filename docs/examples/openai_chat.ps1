# OpenAI's API from PowerShell.
#
# Start it: pwsh openai_chat.ps1 "What is a queue?"
#
# Each call waits its turn under the limits of the accounts, in place of a 429.
param([Parameter(Mandatory)][string]$Prompt)
$ErrorActionPreference = "Stop"
$url = if ($env:ASYNCSVC_URL) { $env:ASYNCSVC_URL } else { "http://127.0.0.1:8000" }
$token = if ($env:ASYNCSVC_TOKEN) { $env:ASYNCSVC_TOKEN } else { "none" }
# x-lane says where it queues: priority, short, long.
$headers = @{ Authorization = "Bearer $token"; "x-lane" = "priority" }

$body = @{
    model    = "auto" # or the name of a model of the settings
    messages = @(@{ role = "user"; content = $Prompt })
} | ConvertTo-Json -Depth 5
$answer = Invoke-RestMethod "$url/v1/chat/completions" -Method Post -Headers $headers -Body $body `
    -ContentType "application/json"
$answer.choices[0].message.content
