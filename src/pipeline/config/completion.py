"""Complete a command line. This reads a few files and imports nothing heavy, because a person waits for it."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.config import search_path
from pipeline.config.search_path import RECIPE_GROUP
from pipeline.errors import ConfigError

CONFIG_VERBS = ("train", "search")  # verbs whose configuration is the file of the same name
SEARCH_SUBCOMMANDS = ("show", "list", "dashboard")  # what can follow `search` in place of values to search
FLAGS = ("--cfg", "--config-dir", "--config-name", "--help", "--info", "--resolve")

# What pipeline prints with a blank at its end is a whole word; anything else is to be continued.
BASH = r"""# pipeline: completion of verbs, groups, options and keys for bash
_pipeline() {
    local IFS=$'\n' line="${COMP_LINE:0:$COMP_POINT}" kept=""
    local word="${line##*[[:space:]]}" breaks="${COMP_WORDBREAKS//[^=:@]/}"
    COMPREPLY=($("$1" completion candidates "$line" 2>/dev/null))
    case "$word" in
        # inside quotes a blank would belong to the value
        [\'\"]*) COMPREPLY=("${COMPREPLY[@]% }") ;;
        # elsewhere bash takes what follows = : @ for a word of its own, and replaces only that
        *) [ -n "$breaks" ] && kept="${word%"${word##*[$breaks]}"}"
           COMPREPLY=("${COMPREPLY[@]#"$kept"}") ;;
    esac
}
complete -o nospace -F _pipeline pipeline
"""
ZSH = r"""#compdef pipeline
# pipeline: completion of verbs, groups, options and keys for zsh
_pipeline() {
    local -a found
    found=("${(@f)$("${words[1]}" completion candidates "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
    compadd -S '' -- ${found:#* }
    compadd -- ${${(M)found:#* }% }
}
if [ "$funcstack[1]" = "_pipeline" ]; then _pipeline "$@"; else compdef _pipeline pipeline; fi
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH}


def completion_output(arguments: Sequence[str], verbs: Sequence[str], *, usage: str) -> str:
    """Return what `pipeline completion ARGUMENTS` prints. Raise ConfigError for unknown arguments."""
    match list(arguments):
        case ["candidates", line]:
            return "\n".join(candidates(line, verbs)) + "\n"
        case [("bash" | "zsh") as shell]:
            return SCRIPTS[shell]
        case ["install", *shell] if len(shell) <= 1:
            return f"{install_completion(*shell)}\n"
    raise ConfigError(f"expected  {usage}")


def candidates(line: str, verbs: Sequence[str]) -> list[str]:
    """Return the words that may stand at the end of a command line; a complete word ends with a blank."""
    words = [word.strip("'\"") for word in line.split()[1:]]
    current = "" if line[-1:].isspace() or not words else words.pop()
    fitting = [word for word in _next_words(words, current, verbs) if word.startswith(current)]
    return [word if word.endswith(("=", ".", "/")) or "[" in word else f"{word} " for word in fitting]


def _next_words(words: Sequence[str], current: str, verbs: Sequence[str]) -> list[str]:
    if not words:
        return [*verbs, "--help", "--version"]
    verb, last = words[0], words[-1]
    if verb == "completion":
        return [*SCRIPTS, "install"]
    if verb == "help":
        return list(verbs)
    if verb not in CONFIG_VERBS:
        return _runs(words) if current.startswith("run=") else ["run=", "runs_dir=", "--help"]
    if verb == "search" and len(words) > 1 and words[1] in SEARCH_SUBCOMMANDS:
        return ["runs_dir=", *_searches(words)]
    folders = search_path.config_folders(
        [after for before, after in itertools.pairwise(words) if before == "--config-dir"]
    )
    if last == "--cfg":
        return ["job"]
    if last == "--config-name":
        return [name for name in search_path.primary_configs(folders) if name == verb or name not in CONFIG_VERBS]
    if last == "--config-dir":
        return [f"{path}/" for path in sorted(Path().glob(f"{current}*")) if path.is_dir()]
    looking = SEARCH_SUBCOMMANDS if words == ["search"] else ()
    return list(FLAGS) if current.startswith("-") else [*looking, *_overrides(words, current, folders)]


def _runs(words: Sequence[str]) -> list[str]:
    return [f"run={path.parent.name}" for path in sorted(_root(words).glob("*/config.yaml"))]


def _searches(words: Sequence[str]) -> list[str]:
    return [path.parent.name for path in sorted(_root(words).glob("searches/*/config.yaml"))]


def _root(words: Sequence[str]) -> Path:
    return Path(next((word.partition("=")[2] for word in words if word.startswith("runs_dir=")), "runs"))


def _overrides(words: Sequence[str], current: str, folders: Sequence[Path]) -> list[str]:
    key = current.lstrip("+~")
    sign = current[: len(current) - len(key)]
    groups = search_path.groups_of_config(words[0], folders)
    name, equals, value = key.partition("=")
    tree = _tree(words, groups, folders)
    if equals and name in groups:
        started = value[: max(value.rfind("["), value.rfind(",")) + 1]
        found = [f"{name}={started}{option}" for option in groups[name]]
    elif equals:
        found = [f"{name}={value}" for value in _values(_at(tree, name))]
    elif "." in key:
        parent = key.rpartition(".")[0]
        found = [f"{parent}.{name}" for name in _keys(_at(tree, parent))]
    else:
        found = [f"{group}=" for group in groups] + [name for name in _keys(tree) if name.rstrip(".=") not in groups]
        found += [f"{key}."] if isinstance(tree.get(key), dict) else []
    if sign == "~":
        found = [word.rstrip("=.") for word in found]
    return [f"{sign}{word}" for word in dict.fromkeys(found)]


def _keys(node: Any) -> list[str]:
    """Return the keys of a node: `max_epochs=` for a value, `early_stopping.` for a node with keys of its own."""
    inside = node if isinstance(node, dict) else {}
    names = [name for name in inside if not name.startswith("_")]
    return [f"{name}." if isinstance(inside[name], dict) else f"{name}=" for name in names]


def _values(default: Any) -> list[str]:
    if isinstance(default, bool):
        return ["true", "false"]
    return [str(default)] if isinstance(default, int | float | str) and default != search_path.MISSING else []


def _at(tree: Any, path: str) -> Any:
    for name in path.split("."):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def _tree(words: Sequence[str], groups: search_path.Groups, folders: Sequence[Path]) -> dict[str, Any]:
    """Return the keys of the options that are chosen on the line or by default."""
    choices = search_path.default_choices(words[0], folders)
    for word in words:
        group, _, option = word.lstrip("+").partition("=")
        if group in groups:
            choices[group] = option.strip("[]").split(",")
    tree = {
        name: value
        for name, value in search_path.read_config(search_path.PRIMARY, folders).items()
        if name != "defaults"
    }
    for group, choice in choices.items():
        if group != RECIPE_GROUP:
            options = choice if isinstance(choice, list) else [choice]
            tree[group] = {
                key: value for option in options for key, value in _content(f"{group}/{option}", folders).items()
            }
    return tree


def _content(name: str, folders: Sequence[Path]) -> dict[str, Any]:
    """Return the keys of a file and of the files in its group that it includes; its own values win."""
    own = search_path.read_config(name, folders)
    included: dict[str, Any] = {}
    for entry in own.pop("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            included |= _content(f"{name.rpartition('/')[0]}/{entry}", folders)
    return included | own


def install_completion(shell: str | None = None) -> str:
    """Put the script where the user's shell looks for it, and return a message for the user.

    Raise ConfigError for a shell that is neither bash nor zsh, or a place that cannot be written.
    """
    chosen = shell or Path(os.environ.get("SHELL", "")).name
    if chosen not in SCRIPTS:
        raise ConfigError(
            f"completion is there for bash and zsh, not for {chosen or 'an unknown shell'}\n"
            "  to choose one  pipeline completion install bash"
        )
    path = _bash_place() if chosen == "bash" else Path.home() / ".zfunc" / "_pipeline"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SCRIPTS[chosen], encoding="utf-8")
        note = _note_for_bash(path) if chosen == "bash" else _announce_to_zsh()
    except OSError as problem:
        raise ConfigError(f"cannot write {problem.filename}: {problem.strerror}") from problem
    return f"wrote {path}\n{note}"


def _bash_place() -> Path:
    """Return the path where the package bash-completion looks for the script of a command."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return (
        Path(os.environ.get("BASH_COMPLETION_USER_DIR") or Path(data, "bash-completion")) / "completions" / "pipeline"
    )


def _note_for_bash(path: Path) -> str:
    return f"open a new shell; without the package bash-completion add to ~/.bashrc:  source '{path}'"


def _announce_to_zsh() -> str:
    """Add the folder of the script to ~/.zshrc, once: zsh has no default folder for a user's scripts."""
    settings = Path(os.environ.get("ZDOTDIR") or Path.home()) / ".zshrc"
    before = settings.read_text(encoding="utf-8") if settings.exists() else ""
    if ".zfunc" in before:
        return "open a new shell"
    with settings.open("a", encoding="utf-8") as file:
        file.write("\nfpath+=~/.zfunc  # completion of pipeline\nautoload -Uz compinit && compinit\n")
    return f"added its folder to fpath in {settings}; open a new shell"
