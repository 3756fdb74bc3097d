"""Who we are to an MLflow server: from the environment or MLflow's own file, and from nowhere else."""

import base64
import configparser
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

FILE = Path("~/.mlflow/credentials")
USERNAME, PASSWORD, TOKEN = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"
REMEDY = f"set {USERNAME} and {PASSWORD} (or {TOKEN}), or write the first two, in small letters, to {FILE}"


def authorization(uri: str, environment: Mapping[str, str]) -> str | None:
    """The header, by the same rules as MLflow's own client; None for a server that asks for nothing.

    A user and a password in the address win: that is how other programs hand them over.
    """
    named = urlsplit(uri)
    in_file = _file()
    user = environment.get(USERNAME) or in_file.get(USERNAME.lower())
    password = environment.get(PASSWORD) or in_file.get(PASSWORD.lower())
    if named.username is not None:
        user, password = unquote(named.username), unquote(named.password or "")
    if user and password is not None:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    token = environment.get(TOKEN)
    return f"Bearer {token}" if token else None


def _file() -> Mapping[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(os.path.expanduser(FILE))
    except (OSError, configparser.Error):
        return {}  # whoever cannot read it is told by the server that it wants a name
    return parser["mlflow"] if parser.has_section("mlflow") else {}
