"""Print the shell's completion script."""

from __future__ import annotations

import argparse

from dtx.errors import UserError

EXAMPLES = """
  eval "$(dtx completion bash)"          in ~/.bashrc; `zsh` in ~/.zshrc, after compinit
  dtx completion fish | source           in ~/.config/fish/config.fish
"""

# Each asks `dtx completion --query LINE` (the line up to the cursor). A candidate that ends in a space
# is a whole word; after others (`agent.`, `dt=`) the same word goes on.
BASH = r"""
_dtx() {
    local IFS=$'\n' found word="${COMP_LINE:0:COMP_POINT}" cut=""
    found=($("$1" completion --query="$word" 2>/dev/null))
    # Outside quotes Bash breaks words at = and :, and wants only what follows the last of them.
    word="${word##*[[:space:]]}"
    [[ $word == [\"\']* ]] || cut="${word%"${word##*[=:]}"}"
    COMPREPLY=("${found[@]#"$cut"}")
}
complete -o nospace -F _dtx dtx
"""
ZSH = r"""
_dtx() {
    local -a found whole part
    found=("${(@f)$("${words[1]}" completion --query="${words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    whole=("${(@)${(M)found:#* }% }"); part=("${(@)found:#* }")
    (( ${#${(@)whole:#}} )) && compadd -- "${(@)whole:#}"
    (( ${#${(@)part:#}} )) && compadd -S '' -- "${(@)part:#}"
}
compdef _dtx dtx
"""
FISH = r"""
function __dtx_complete
    set -l program (commandline -opc)[1]
    $program completion --query=(commandline -cp | string collect) 2>/dev/null | string trim --right
end
complete --command dtx --no-files --arguments '(__dtx_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which shell; or what to complete, asked by the script."""
    parser.add_argument("shell", nargs="?", choices=[*SCRIPTS])
    parser.add_argument("--query", metavar="LINE", help=argparse.SUPPRESS)


def main(args: argparse.Namespace) -> int:
    """Print the script, or the candidates."""
    if args.query is not None:
        from dtx.verbs._completing import complete

        for candidate in complete(args.query):
            print(candidate)
        return 0
    if args.shell is None:
        raise UserError(f"which shell? dtx completion {'|'.join(SCRIPTS)}")
    print(SCRIPTS[args.shell].strip())
    return 0
