# Follow a task, with every token as it comes, across any break of the connection or the service.
#
# Start it: pwsh follow.ps1 ID
#
# Each event has a number. After a break the stream goes on behind the last number that was seen, so that
# nothing is missing and nothing comes twice.
param([Parameter(Mandatory)][string]$Id)
$ErrorActionPreference = "Stop"
$url = if ($env:ASYNCSVC_URL) { $env:ASYNCSVC_URL } else { "http://127.0.0.1:8000" }
$token = if ($env:ASYNCSVC_TOKEN) { $env:ASYNCSVC_TOKEN } else { "none" }
$http = [System.Net.Http.HttpClient]::new()
$seen = "0"
$status = ""

while ($status -notin "completed", "failed", "cancelled") {
    $request = [System.Net.Http.HttpRequestMessage]::new("GET", "$url/tasks/$Id/events")
    $request.Headers.Add("Authorization", "Bearer $token")
    $request.Headers.Add("Accept", "text/event-stream")
    $request.Headers.Add("Last-Event-ID", $seen)
    try {
        $answer = $http.Send($request, "ResponseHeadersRead")
        if ([int]$answer.StatusCode -in 400..499) {
            throw [System.ArgumentException]::new($answer.Content.ReadAsStringAsync().Result) # such as no task
        }
        $reader = [System.IO.StreamReader]::new($answer.Content.ReadAsStream())
        while ($null -ne ($line = $reader.ReadLine())) {
            if (-not $line.StartsWith("data: ")) { continue }
            $event_ = $line.Substring(6) | ConvertFrom-Json
            if ($event_.type -eq "chunk") { [Console]::Out.Write($event_.data.text) }
            if ($event_.type -eq "status") { $status = $event_.data.status }
            if ($null -ne $event_.seq) { $seen = "$($event_.seq)" } # what is live only has no number
        }
    }
    catch [System.ArgumentException] { throw }
    catch { } # the connection broke
    if ($status -notin "completed", "failed", "cancelled") { Start-Sleep -Milliseconds 500 } # and come back
}
[Console]::Out.WriteLine()
Write-Host "[$status]"
