# Run asyncsvc on Windows as a scheduled task, from the start of the machine on, without anyone logged in.
#
# Start it as an administrator: powershell -File windows-task.ps1 -Folder C:\asyncsvc
# In that folder are .venv, settings.toml and .env (README.md beside this file).
param([string]$Folder = "C:\asyncsvc", [string]$User = "NT AUTHORITY\LOCAL SERVICE")
$ErrorActionPreference = "Stop"
$program = Join-Path $Folder ".venv\Scripts\asyncsvc.exe"
if (-not (Test-Path $program)) { throw "$program is not there" }

# The user of the service may read the folder, and write the data in it, beside administrators alone.
New-Item -ItemType Directory -Force (Join-Path $Folder "data") | Out-Null
icacls $Folder /inheritance:r /grant "Administrators:(OI)(CI)F" "SYSTEM:(OI)(CI)F" "${User}:(OI)(CI)RX" | Out-Null
icacls (Join-Path $Folder "data") /grant "${User}:(OI)(CI)M" | Out-Null

$log = Join-Path $Folder "data\asyncsvc.log"
$line = "/c `"`"$program`" serve --settings `"$Folder\settings.toml`" >> `"$log`" 2>&1`""
$action = New-ScheduledTaskAction -Execute "cmd.exe" -Argument $line -WorkingDirectory $Folder
$trigger = New-ScheduledTaskTrigger -AtStartup
$settings = New-ScheduledTaskSettingsSet -ExecutionTimeLimit ([TimeSpan]::Zero) -RestartCount 999 `
    -RestartInterval (New-TimeSpan -Minutes 1) -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries
$principal = New-ScheduledTaskPrincipal -UserId $User -LogonType ServiceAccount
Register-ScheduledTask -TaskName "asyncsvc" -Action $action -Trigger $trigger -Settings $settings `
    -Principal $principal -Force | Out-Null
Start-ScheduledTask -TaskName "asyncsvc"
Write-Host "started; it writes to $log. Stop it: Stop-ScheduledTask asyncsvc"
