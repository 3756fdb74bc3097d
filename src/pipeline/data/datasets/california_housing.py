"""House prices in the districts of California in 1990 (Pace & Barry 1997)."""

import io
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from pipeline.constraints import ProperFraction, Seed
from pipeline.data.dataset import Split, Splits, SplitSpec
from pipeline.data.datasets.published_files import PublishedFile, extract, read_published_files
from pipeline.spec import Kind, TaskKind
from pipeline.system.download import download_file
from pipeline.system.files import cache_folder

MEMBER = "cal_housing.data"
DOLLARS = 100_000.0  # the unit of a house's value


class CaliforniaHousing:
    """20,640 districts, with the archive, features and target of scikit-learn's fetch_california_housing."""

    kind: ClassVar[Kind] = "table"
    task: ClassVar[TaskKind] = "regression"

    mirrors: ClassVar[tuple[str, ...]] = ("https://ndownloader.figshare.com/files/5976036",)
    archive: ClassVar[PublishedFile] = PublishedFile(
        "cal_housing.tgz", 441_963, "aaa5c9a6afe2225cc2aed2723682ae403280c4a3695a2ddda4ffb5d8215ea681"
    )
    feature_names: ClassVar[tuple[str, ...]] = (
        *("MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude"),
    )

    def __init__(self, *, validation_share: ProperFraction, test_share: ProperFraction, split_seed: Seed) -> None:
        self.split = SplitSpec(validation_share, test_share, split_seed)

    def load(self, root: Path | None) -> Splits:
        if root is None:
            destination = cache_folder() / "california_housing" / self.archive.name
            content = download_file(
                self.mirrors,
                destination,
                size=self.archive.size,
                sha256=self.archive.sha256,
                unpack=False,
                remedy=f"Without a network, put {self.archive.name} into a folder and type data.root=/path/with/it, or "
                "type data=diabetes, which comes with the installation.",
            )
        else:
            destination = root / self.archive.name
            remedy = "Leave data.root out to have california_housing downloaded."
            content = read_published_files(root, [self.archive], remedy=remedy, unpack=False)[self.archive.name]
        rows = np.loadtxt(io.BytesIO(extract(content, [MEMBER], where=str(destination))[MEMBER]), delimiter=",")
        longitude, latitude, age, rooms, bedrooms, population, households, income, value = rows.T
        per_household = (rooms / households, bedrooms / households, population, population / households)
        inputs = np.stack([income, age, *per_household, latitude, longitude], axis=1)
        whole = Split(torch.from_numpy(inputs).float(), torch.from_numpy(value / DOLLARS).float()[:, None])
        train, validation, test = self.split(whole)
        return Splits("california_housing", "table", "regression", (), train, validation, test, self.feature_names)
