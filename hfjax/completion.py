"""Completion of the command line in bash and zsh: `hfjax completion` prints the script.

absl knows no completion of its own. The names of configs, fiddlers and flags stand in the script,
so that pressing Tab starts no Python.
"""

import string
from collections.abc import Iterable, Mapping

PATHS = ("workdir", "init_from", "data_dir", "fdl_config_file")  # the shell completes these itself

SCRIPT = string.Template("""\
# Completion of hfjax, made by `hfjax completion`. In ~/.bashrc: eval "$$(hfjax completion)"
# In ~/.zshrc before that line: autoload -U compinit bashcompinit && compinit && bashcompinit
_hfjax() {
  local cur="$${COMP_WORDS[COMP_CWORD]}" before="$${COMP_WORDS[COMP_CWORD-1]}"
  local line="$${COMP_WORDS[*]}" flag="" start="" words
  line="$${line// = /=}"
  if [[ $$cur == "=" ]]; then  # bash makes the sign a word
    flag="$$before"; cur=""
  elif [[ $$before == "=" ]]; then
    flag="$${COMP_WORDS[COMP_CWORD-2]}"
  elif [[ $$cur == --*=* ]]; then
    flag="$${cur%%=*}"; start="$$flag="; cur="$${cur#*=}"
  fi
  case "$$flag" in
    --fdl_config) words="$configs" ;;
    --fiddler)
      case "$$line " in
$fiddlers
        *) words="" ;;
      esac ;;
$values
    $paths) words="" ;;
    *)
      if [[ $$before == info ]]; then
        words="$configs"
      else
        words="list info completion $flags"
      fi ;;
  esac
  COMPREPLY=($$(compgen -P "$$start" -W "$$words" -- "$$cur"))
  [[ $${COMPREPLY[0]-} == *= ]] && compopt -o nospace 2>/dev/null
  return 0
}
complete -o default -F _hfjax hfjax
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
        paths="|".join(f"--{name}" for name in PATHS),
        flags=" ".join(names),
    )
