"""Completion of the command line in bash and zsh: `hfjax completion` prints the script.

absl knows no completion of its own. The names of configs, fiddlers and flags stand in the script,
so that pressing Tab starts no Python.
"""

import string
from collections.abc import Iterable, Mapping

SCRIPT = string.Template("""\
# Completion of hfjax, made by `hfjax completion`. In ~/.bashrc: eval "$$(hfjax completion)"
# In ~/.zshrc before that line: autoload -U compinit bashcompinit && compinit && bashcompinit
_hfjax() {
  local cur="$${COMP_WORDS[COMP_CWORD]}" before="$${COMP_WORDS[COMP_CWORD-1]}"
  local line="$${COMP_WORDS[*]}" flag="" start="" words
  line="$${line// = /=}"
  line="$${line//--fdl_config /--fdl_config=}"
  line="$${line// info / --fdl_config=}"
  if [[ $$cur == "=" ]]; then  # bash makes the sign a word
    flag="$$before"; cur=""
  elif [[ $$before == "=" ]]; then
    flag="$${COMP_WORDS[COMP_CWORD-2]}"
  elif [[ $$cur == --*=* ]]; then
    flag="$${cur%%=*}"; start="$$flag="; cur="$${cur#*=}"
  elif [[ $$before == --* && " $flags " == *" $$before= "* ]]; then  # --flag value
    flag="$$before"
  fi
  case "$$flag" in
    --fdl_config) words="$configs" ;;
    --fiddler)
      case "$$line " in
$fiddlers
        *) words="" ;;
      esac ;;
$values
    "")
      words="$flags"
      [[ $$COMP_CWORD == 1 ]] && words="list info completion $$words"
      [[ $$before == info ]] && words="$configs" ;;
    *)  # a path, or a number
      [[ -n $${ZSH_VERSION-} ]] && COMPREPLY=($$(compgen -P "$$start" -G "$$cur*"))
      return 0 ;;  # bash completes paths after an equals sign
  esac
  COMPREPLY=($$(compgen -P "$$start" -W "$$words" -- "$$cur"))
  [[ $${COMPREPLY[0]-} == *= ]] && compopt -o nospace 2>/dev/null
  return 0
}
if [[ -n $${ZSH_VERSION-} ]]; then  # which has no compopt
  complete -o default -o nospace -F _hfjax hfjax
else
  complete -o default -F _hfjax hfjax
fi
""")


def script(
    models: Iterable[tuple[Iterable[str], Iterable[str]]],
    *,
    switches: Iterable[str],
    flags: Iterable[str],
    values: Mapping[str, Iterable[str]],
) -> str:
    """The script. models: (configs, fiddlers) of each; values: {flag: its values}, where few."""
    models = [(list(configs), list(fiddlers)) for configs, fiddlers in models]
    names = [f"--{name}=" for name in flags] + [f"--{name}" for name in switches]
    of_configs = (
        f"{' ' * 8}{'|'.join(f'*--fdl_config={name}[[:space:]]*' for name in configs)}) "
        f'words="{" ".join(fiddlers)}" ;;'
        for configs, fiddlers in models
        if configs
    )
    return SCRIPT.substitute(
        configs=" ".join(name for configs, _ in models for name in configs),
        fiddlers="\n".join(of_configs),
        values="\n".join(f'    --{n}) words="{" ".join(v)}" ;;' for n, v in values.items()),
        flags=" ".join(names),
    )
