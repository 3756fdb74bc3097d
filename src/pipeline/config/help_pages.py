"""Format the verbs, and the groups with their options, for --help and --info."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.config import search_path

VERBS_HELP = """\
Train, evaluate and track neural networks.

usage: pipeline VERB [KEY=VALUE] ...

{verbs}

`pipeline train --help` shows the groups of options; `pipeline VERB --help` how a verb is used."""

TRAIN_HELP = """\
Train a network, evaluate it on the test set and track it in MLflow.

usage: pipeline train [GROUP=OPTION] [KEY=VALUE] [+NEW_KEY=VALUE] [~KEY_TO_DELETE] ...

groups and their options (* the default; --info says what each is)
{groups}

options
  --cfg job           show the composed configuration and stop; --resolve fills in its interpolations
  --info              describe every option of every group
  --config-dir DIR    more options and groups of your own, before those in ./conf and ours; may be repeated
  --config-name NAME  begin with another file than {name}.yaml
  --help              this text

examples
  pipeline train
  pipeline train model=mlp data=mnist5k trainer.max_epochs=5 optimizer.learning_rate=3e-3
  pipeline train experiment=mnist '~callbacks.early_stopping'
  pipeline train 'callbacks=[default,augmentation,ema]' 'model.widths=[32,64]'
  pipeline train allow_packages=[my_package] model._target_=my_package.MyNet
"""


def verbs_page(summaries: Mapping[str, str]) -> str:
    """Return the help of `pipeline` itself; `summaries` are those of its verbs."""
    return VERBS_HELP.format(verbs="\n".join(f"  {name:<10}  {summary}" for name, summary in summaries.items()))


def train_page(config_name: str, folders: Sequence[Path]) -> str:
    return TRAIN_HELP.format(name=config_name, groups=options_by_group(config_name, folders))


def options_by_group(config_name: str, folders: Sequence[Path]) -> str:
    """Return a line for each group: `model  cnn* mlp softmax_regression`; the star marks the default."""
    groups, defaults = (
        search_path.groups_of_config(config_name, folders),
        search_path.default_choices(config_name, folders),
    )
    width = max((len(group) for group in groups), default=0)
    lines = [
        f"  {group:<{width}}  {' '.join(_starred(name, defaults.get(group)) for name in options)}"
        for group, options in groups.items()
    ]
    return "\n".join(lines)


def options_page(config_name: str, folders: Sequence[Path]) -> str:
    """Return every group with its options, each with the first comment of its file."""
    groups, defaults = (
        search_path.groups_of_config(config_name, folders),
        search_path.default_choices(config_name, folders),
    )
    width = max((len(name) + 1 for options in groups.values() for name in options), default=0)
    blocks = []
    for group, options in groups.items():
        lines = [
            f"  {_starred(name, defaults.get(group)):<{width}}  {search_path.first_comment(path)}".rstrip()
            for name, path in options.items()
        ]
        blocks.append("\n".join([group, *lines]))
    return "\n\n".join(blocks)


def _starred(name: str, default: search_path.Choice) -> str:
    chosen = default if isinstance(default, list) else [default]
    return f"{name}*" if name in chosen else name
