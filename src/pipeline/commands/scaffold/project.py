"""`pipeline new-data` and `pipeline new-model`: a class, its YAML and its test in the user's own project."""

import keyword
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template

from pipeline import cli_args
from pipeline.config import search_path
from pipeline.errors import DONE, ConfigError
from pipeline.system.files import write_atomically

TEMPLATES = Path(__file__).with_name("templates")
NAME = re.compile(r"[a-z][a-z0-9_]*")
OWN = Path("conf", f"{search_path.ALLOW_PACKAGES}.yaml")  # tells which package is the project's
PACKAGE = "my_package"

# What is typed beside `data=NAME` to train on it; the templates of a kind are data_KIND.py.txt and data_KIND.yaml.txt.
KINDS = {"image": "", "audio": "", "table": " model=mlp", "text": " model=text_cnn"}


def new_data(arguments: list[str]) -> int:
    """Write a data source to start from."""
    named = cli_args.named_values(arguments, {"name": "", "kind": "", "package": ""})
    name, kind = named["name"], named["kind"]
    if kind not in KINDS:
        raise ConfigError(
            f"{f'kind={kind}' if kind else 'kind= is missing'}: expected {', '.join(KINDS)}; such as "
            "pipeline new-data name=my_data kind=image"
        )
    check_name(name, "data", example="my_data")
    package = project_package(named["package"])
    write_files(
        {
            f"{package}/{name}.py": f"data_{kind}.py",
            f"conf/data/{name}.yaml": f"data_{kind}.yaml",
            f"tests/test_{name}.py": "data_test.py",
        },
        {"name": name, "kind": kind, "package": package},
    )
    print(f"next:   python -m pytest tests/test_{name}.py\n        pipeline train data={name}{KINDS[kind]}")
    return DONE


def new_model(arguments: list[str]) -> int:
    """Write a network to start from."""
    named = cli_args.named_values(arguments, {"name": "", "package": ""})
    name = named["name"]
    check_name(name, "model", example="my_net")
    package = project_package(named["package"])
    write_files(
        {
            f"{package}/{name}.py": "model.py",
            f"conf/model/{name}.yaml": "model.yaml",
            f"tests/test_{name}.py": "model_test.py",
        },
        {"name": name, "package": package},
    )
    print(f"next:   python -m pytest tests/test_{name}.py\n        pipeline train model={name}")
    return DONE


def check_name(name: str, group: str, *, example: str) -> None:
    """Raise ConfigError, with a valid name, for a name that is no module's or that another option has."""
    if not is_module(name):
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
        cleaned = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
        fitting = cleaned if is_module(cleaned) else f"my_{cleaned}" if cleaned else example
        raise ConfigError(
            f"{f'name={name}' if name else 'name= is missing'}: expected small letters, digits and '_', as of a "
            f"Python module\n  such as  name={fitting}"
        )
    if name in search_path.option_groups([search_path.shipped_folder()])[group]:
        raise ConfigError(f"{group}={name} is there already: choose another name\n  such as  name=my_{name}")


def is_module(name: str) -> bool:
    return NAME.fullmatch(name) is not None and not keyword.iskeyword(name)


def project_package(asked: str) -> str:
    """Return the package of the project's own classes. Raise ConfigError if `asked` is another one."""
    known = search_path.project_packages()
    if asked and not is_module(asked):
        raise ConfigError(f"package={asked}: expected the name of a Python package, such as package={PACKAGE}")
    if asked and known and asked not in known:
        raise ConfigError(f"package={asked} is not this project's: add it to {OWN}, or use package={known[0]}")
    return asked or (known[0] if known else PACKAGE)


def write_files(templates: Mapping[str, str], words: Mapping[str, str]) -> None:
    """Write all files or none. Raise ConfigError if one of them exists: no file is overwritten."""
    there = [path for path in templates if Path(path).exists()]
    if there:
        raise ConfigError(
            f"{', '.join(there)}: there already, and left as it is: choose another name\n  such as  "
            f"name={words['name']}_2"
        )
    all_words = {
        **words,
        "class_name": class_name(words["name"], "".join(text_of(each) for each in templates.values())),
        "title": words["name"].replace("_", " ").strip().capitalize(),
    }
    filled = {path: filled_in(template, all_words) for path, template in templates.items()}
    shared = {f"{words['package']}/__init__.py": "", str(OWN): filled_in("allow_packages.yaml", words)}
    filled |= {path: content for path, content in shared.items() if not Path(path).exists()}
    try:
        for path, content in filled.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(Path(path), content)
    except OSError as problem:
        raise ConfigError(f"cannot write {problem.filename}: {problem.strerror}") from problem
    print("\n".join(f"wrote   {path}" for path in filled))


def class_name(name: str, code: str) -> str:
    """Return the class for a module: rivers_2 -> Rivers2; part, a name that the code uses -> OwnPart."""
    found = "".join(part.capitalize() for part in name.split("_"))
    return f"Own{found}" if re.search(rf"\b{found}\b", code) else found


def filled_in(template: str, words: Mapping[str, str]) -> str:
    return Template(text_of(template)).substitute(words)


def text_of(template: str) -> str:
    return (TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")
