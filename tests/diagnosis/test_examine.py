import pytest
import torch
from torch import Tensor, nn

from pipeline.data.dataset import Split, Splits
from pipeline.data.duplicates import drop_duplicates
from pipeline.diagnosis.examine import count_duplicates, feature_vectors, nearest_rows, neighbour_outputs
from pipeline.diagnosis.inputs import DuplicateCount
from pipeline.spec import DataSpec, Kind


def spec_of(kind: Kind, shape: tuple[int, ...]) -> DataSpec:
    return DataSpec("data", kind, "binary", shape, ("no", "yes"), (0.0,), (1.0,))


def clouds(size: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(size) % 2
    return Split(torch.randn(size, 3, generator=generator) + 8 * labels[:, None], labels)


def test_a_training_sample_is_not_asked_about_itself() -> None:
    train = clouds(60, 0)
    wrong = train.targets.clone()
    wrong[7] = 1 - wrong[7]
    judged = neighbour_outputs(
        Split(train.inputs, wrong), clouds(20, 1), spec_of("table", (3,)), nn.Identity(), torch.arange(60)
    )
    assert torch.from_numpy(judged.train.correct).logical_not().nonzero().flatten().tolist() == [7]
    assert judged.validation.correct.all() and judged.train.outputs.sum(axis=1) == pytest.approx(1)


def test_the_nearest_are_those_of_every_block() -> None:
    points = torch.arange(3000.0)[:, None]
    found = nearest_rows(points, points, without_itself=True)
    assert set(found[2500].tolist()) == {*range(2495, 2500), *range(2501, 2506)}


def test_sentences_are_alike_by_the_rare_words_that_they_share() -> None:
    said = torch.tensor([[2, 5, 9, 0], [2, 7, 5, 0], [9, 2, 8, 6], [2, 3, 4, 0]])
    near = feature_vectors(Split(said, torch.zeros(4, dtype=torch.int64)), spec_of("text", (4,)), nn.Identity())
    distances = torch.cdist(near, near)
    assert distances[0, 2] < distances[0, 3] and distances[0, 1] < distances[0, 3]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 40)])
def test_pictures_of_any_size_are_compared_small(shape: tuple[int, ...]) -> None:
    pictures = torch.randint(0, 256, (5, *shape), dtype=torch.uint8)
    scaled: nn.Module = _Floating()
    found = feature_vectors(Split(pictures, torch.zeros(5, dtype=torch.int64)), spec_of("image", shape), scaled)
    assert found.shape == (5, shape[0] * min(shape[1], 16) * min(shape[2], 16))


class _Floating(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.float()


def test_copies_are_counted_and_left_out_of_the_training_part_alone() -> None:
    train, validation, test = clouds(20, 0), clouds(10, 1), clouds(10, 2)
    leaking = Split(torch.cat([train.inputs, test.inputs[:3]]), torch.cat([train.targets, 1 - test.targets[:3]]))
    parts = Splits("data", "table", "binary", ("no", "yes"), leaking, validation, test)
    found = count_duplicates(parts)
    assert found == {
        "train": DuplicateCount(0, 0, 23),
        "validation": DuplicateCount(0, 0, 10),
        "test": DuplicateCount(3, 0, 10),
    }
    cleaned = drop_duplicates(parts)
    assert torch.equal(cleaned.train.inputs, train.inputs) and cleaned.test is test
