# A batch: a file of requests goes in, a file of answers comes out, whatever happens in between.
#
# Start it: pwsh batch.ps1 "What is HTTP?" "What is TCP?"
#
# Each line is a task of its own in the lane `long`. The batch goes on over restarts of the service.
param([Parameter(Mandatory, ValueFromRemainingArguments)][string[]]$Prompts)
$ErrorActionPreference = "Stop"
$url = $(if ($env:ASYNCSVC_URL) { $env:ASYNCSVC_URL } else { "http://127.0.0.1:8000" }) + "/v1"
$token = if ($env:ASYNCSVC_TOKEN) { $env:ASYNCSVC_TOKEN } else { "none" }
$headers = @{ Authorization = "Bearer $token" }

$number = 0
$lines = foreach ($prompt in $Prompts) {
    $number += 1
    @{
        custom_id = "question-$number"
        method    = "POST"
        url       = "/v1/chat/completions"
        body      = @{ model = "auto"; messages = @(@{ role = "user"; content = $prompt }) }
    } | ConvertTo-Json -Depth 6 -Compress
}
$path = New-TemporaryFile
Set-Content -Path $path -Value $lines -Encoding utf8NoBOM
$form = @{ purpose = "batch"; file = Get-Item $path }
$file = Invoke-RestMethod "$url/files" -Method Post -Headers $headers -Form $form
Remove-Item $path

$wanted = @{ input_file_id = $file.id; endpoint = "/v1/chat/completions"; completion_window = "24h" }
$batch = Invoke-RestMethod "$url/batches" -Method Post -Headers $headers -Body ($wanted | ConvertTo-Json) `
    -ContentType "application/json"
while ($batch.status -in "validating", "in_progress", "finalizing") {
    Start-Sleep -Milliseconds 500
    $batch = Invoke-RestMethod "$url/batches/$($batch.id)" -Headers $headers
}
Write-Host $batch.status
# In order of their end: go by custom_id. What failed is in the file of error_file_id.
if ($batch.output_file_id) {
    $text = (Invoke-WebRequest "$url/files/$($batch.output_file_id)/content" -Headers $headers).Content
    if ($text -is [byte[]]) { $text = [System.Text.Encoding]::UTF8.GetString($text) }
    foreach ($line in $text.Trim().Split("`n")) {
        $answer = $line | ConvertFrom-Json
        "$($answer.custom_id)`t$($answer.response.body.choices[0].message.content)"
    }
}
