"""The searches that there are, and one of them by its name. Free of Optuna, so that a mistake is answered at once."""

from pathlib import Path

from pipeline.config.suggestions import did_you_mean, listing, nearest_names
from pipeline.errors import RunError
from pipeline.search.plan import CONFIG_FILE, SEARCHES_FOLDER
from pipeline.tracking.sync_state import JOURNAL

LATEST = "latest"
MAX_LISTED = 10


def search_directories(runs_dir: str) -> list[Path]:
    """Return the directories of all searches, the most recently active one first."""
    folders = [path.parent for path in (Path(runs_dir).absolute() / SEARCHES_FOLDER).glob(f"*/{CONFIG_FILE}")]
    return sorted(folders, key=last_activity, reverse=True)


def last_activity(folder: Path) -> float:
    """Return the time of the last change, in seconds since 1970."""
    return max(path.stat().st_mtime for path in (folder / CONFIG_FILE, folder / JOURNAL) if path.exists())


def find_search(name: str, runs_dir: str) -> Path:
    """Return the directory of a search, given as `latest`, its name, or its path.

    Raises RunError, with the nearest names.
    """
    folders = search_directories(runs_dir)
    if not folders:
        place = Path(runs_dir).absolute() / SEARCHES_FOLDER
        raise RunError(f"there is no search in {place} yet; `pipeline search KEY=VALUE,VALUE name=NAME` begins one")
    by_name = {folder.name: folder for folder in folders}
    if name in by_name:
        return by_name[name]
    if name == LATEST:
        return folders[0]
    if (Path(name) / CONFIG_FILE).exists() and Path(name).absolute().parent.name == SEARCHES_FOLDER:
        return Path(name).absolute()
    suggestions = [f"pipeline search show {known}" for known in nearest_names(name, by_name)]
    listed = list(by_name)[:MAX_LISTED]
    title = "all searches" if len(listed) == len(folders) else f"the newest of {len(folders)} searches"
    place = folders[0].parent
    raise RunError(f"there is no search {name} in {place}{did_you_mean(suggestions)}{listing(title, listed)}")
