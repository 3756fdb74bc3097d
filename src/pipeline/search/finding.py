"""Which searches there are, and which one is meant."""

from pathlib import Path

from pipeline.config.suggestions import all_of, did_you_mean, nearest
from pipeline.errors import RunError
from pipeline.search.plan import CONFIG, SEARCHES
from pipeline.tracking.sync_state import JOURNAL

LATEST = "latest"
PORT = "8080"  # of the dashboard
MOST_NAMED = 10


def searches(runs_dir: str) -> list[Path]:
    """Their directories; first the one in which something happened last."""
    found = [path.parent for path in (Path(runs_dir).absolute() / SEARCHES).glob(f"*/{CONFIG}")]
    return sorted(found, key=touched_at, reverse=True)


def touched_at(folder: Path) -> float:
    """Seconds since 1970."""
    return max(path.stat().st_mtime for path in (folder / CONFIG, folder / JOURNAL) if path.exists())


def find(name: str, runs_dir: str) -> Path:
    """`latest`, a name, or the directory itself. Raises RunError, with the nearest names."""
    known = searches(runs_dir)
    if not known:
        place = Path(runs_dir).absolute() / SEARCHES
        raise RunError(f"there is no search in {place} yet; `pipeline search KEY=VALUE,VALUE name=NAME` begins one")
    by_name = {folder.name: folder for folder in known}
    if name in by_name:
        return by_name[name]
    if name == LATEST:
        return known[0]
    if (Path(name) / CONFIG).exists() and Path(name).absolute().parent.name == SEARCHES:
        return Path(name).absolute()
    near = [f"pipeline search show {each}" for each in nearest(name, by_name)]
    listed = list(by_name)[:MOST_NAMED]
    what = "all searches" if len(listed) == len(known) else f"the newest of {len(known)} searches"
    raise RunError(f"there is no search {name} in {known[0].parent}{did_you_mean(near)}{all_of(what, listed)}")
