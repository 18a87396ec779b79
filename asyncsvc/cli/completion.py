"""`completion`: the script by which a shell completes commands, options and their values.

A script hands the words of the command line to `asyncsvc completion --words SHELL WORD...`, which
`completing` answers.
"""

import sys
from typing import Annotated, Literal

from asyncsvc.cli.arguments import Argument, Commands
from asyncsvc.cli.options import HERE, program
from asyncsvc.cli.terminal import say

app = Commands()

BASH = """\
# For this shell:    source <(asyncsvc completion bash)
# For all to come:   asyncsvc completion bash > ~/.local/share/bash-completion/completions/asyncsvc
_asyncsvc() {
    local IFS=$'\\n'
    COMPREPLY=($(asyncsvc completion --words bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o bashdefault -o default -F _asyncsvc asyncsvc
"""
ZSH = """\
#compdef asyncsvc
# For this shell:    source <(asyncsvc completion zsh)
# For all to come:   asyncsvc completion zsh > a folder of $fpath, as the file _asyncsvc
_asyncsvc() {
    local -a found
    found=("${(@f)$(asyncsvc completion --words zsh "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then
        _describe asyncsvc found
    else
        _files
    fi
}
compdef _asyncsvc asyncsvc
"""
FISH = """\
# For this shell:    asyncsvc completion fish | source
# For all to come:   asyncsvc completion fish > ~/.config/fish/completions/asyncsvc.fish
function __asyncsvc_words
    set -l words (commandline -opc) (commandline -ct)
    asyncsvc completion --words fish $words[2..-1] 2>/dev/null
end
complete -c asyncsvc -a '(__asyncsvc_words)'
"""
POWERSHELL = """\
# For this shell:    asyncsvc completion powershell | Out-String | Invoke-Expression
# For all to come:   the same line in the file that $PROFILE names
Register-ArgumentCompleter -Native -CommandName asyncsvc -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Select-Object -Skip 1 | ForEach-Object { "$_" })
    if ($wordToComplete -eq '') { $words += '' }
    asyncsvc completion --words powershell @words 2>$null | ForEach-Object {
        $value, $text = $_ -split "`t", 2
        if (-not $text) { $text = $value }
        [System.Management.Automation.CompletionResult]::new(
            $value, $value, 'ParameterValue', $text)
    }
}
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH, "powershell": POWERSHELL, "pwsh": POWERSHELL}


@app.command(group=HERE)
def completion(
    shell: Annotated[
        Literal["bash", "zsh", "fish", "powershell", "pwsh"],
        Argument(metavar="SHELL", help="bash, zsh, fish or powershell."),
    ],
) -> int:
    """Print the script that completes commands, options and values in a shell."""
    print(SCRIPTS[shell], end="", flush=True)
    if program() != "asyncsvc":
        say(
            "note: a shell completes `asyncsvc`, which `pip install .` brings; "
            f"it cannot complete `{program()}`",
            sys.stderr,
        )
    return 0
