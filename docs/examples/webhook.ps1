# A receiver of callbacks, which believes only what is signed with our secret.
#
# Start it: pwsh webhook.ps1 9000
# with ASYNCSVC_WEBHOOK_SECRET set as for the service; then submit a task with
# "callback_url": "http://127.0.0.1:9000/", which the service calls when [webhooks] of its settings
# has allow = ["127.0.0.1/32"].
param([Parameter(Mandatory)][int]$Port)
$ErrorActionPreference = "Stop"
$secret = $env:ASYNCSVC_WEBHOOK_SECRET.Split(" ")[0] -replace "^whsec_", ""
$hmac = [System.Security.Cryptography.HMACSHA256]::new([Convert]::FromBase64String($secret))
$seen = @{} # in earnest a table, kept for a few days

# Whether our service has signed exactly these bytes, and not long ago.
function Test-Genuine($Headers, [byte[]]$Body) {
    $stamp = $Headers["webhook-timestamp"]
    $head = [System.Text.Encoding]::UTF8.GetBytes("$($Headers["webhook-id"]).$stamp.")
    $wanted = "v1," + [Convert]::ToBase64String($hmac.ComputeHash([byte[]]($head + $Body)))
    $number = 0L
    if (-not [long]::TryParse($stamp, [ref]$number)) { return $false }
    $age = [DateTimeOffset]::UtcNow.ToUnixTimeSeconds() - $number
    return [Math]::Abs($age) -lt 300 -and "$($Headers["webhook-signature"])".Split(" ") -ccontains $wanted
}

$listener = [System.Net.HttpListener]::new()
$listener.Prefixes.Add("http://127.0.0.1:$Port/")
$listener.Start()
[Console]::Out.WriteLine("listening on http://127.0.0.1:$Port/")
while ($true) {
    $context = $listener.GetContext()
    $buffer = [System.IO.MemoryStream]::new()
    $context.Request.InputStream.CopyTo($buffer)
    $body = $buffer.ToArray()
    $name = $context.Request.Headers["webhook-id"]
    if (Test-Genuine $context.Request.Headers $body) {
        $context.Response.StatusCode = 204
        if (-not $seen.ContainsKey($name)) { # a repeated delivery has the same id
            $seen[$name] = $true
            $task = [System.Text.Encoding]::UTF8.GetString($body) | ConvertFrom-Json
            [Console]::Out.WriteLine("$($task.task_id) $($task.status) $($task.result)")
        }
    }
    else { $context.Response.StatusCode = 401 }
    $context.Response.Close()
}
