"""Names in a table as vectors."""

import torch

from pipeline.models.layers.categories import CategoryEmbeddings
from pipeline.models.mlp import MLP
from pipeline.models.network import Network, spec_for_model
from pipeline.spec import DataSpec

SPEC = DataSpec(
    name="towns", kind="table", task="regression", input_shape=(3,), class_names=(), mean=(0.0, 10.0, 0.0),
    std=(0.0, 2.0, 0.0), target_mean=(0.0,), target_std=(1.0,),
    categories=(("any other", "Rome", "Oslo"), (), tuple(map(str, range(1000)))),
)  # fmt: skip


def test_amounts_come_first_and_scaled_then_a_vector_for_each_name() -> None:
    network = Network(body=torch.nn.Identity(), spec=SPEC)
    seen = network.standardize(torch.tensor([[2.0, 14.0, 999.0], [1.0, 8.0, 0.0]]))
    assert seen.shape == (2, *spec_for_model(SPEC).input_shape)
    assert seen[:, 0].tolist() == [2.0, -1.0]
    towns, numbers = network.standardize.vectors
    assert torch.equal(seen[0, 1:], torch.cat([towns.weight[2], numbers.weight[999]]))


def test_a_number_without_a_name_is_any_other_which_says_nothing_at_first() -> None:
    embeddings = CategoryEmbeddings(names=[3], scale=torch.nn.Identity())
    assert embeddings(torch.tensor([[0.0], [3.0], [-1.0], [7e9]])).eq(0).all()
    assert embeddings(torch.tensor([[1.0]])).ne(0).any()


def test_a_model_is_built_for_the_width_of_the_vectors() -> None:
    body = MLP(spec=spec_for_model(SPEC), widths=[8], activation="relu", batch_norm=False, dropout=0.0)
    assert Network(body=body, spec=SPEC)(torch.tensor([[1.0, 10.0, 5.0]])).shape == (1, 1)


def test_low_precision_tells_a_thousand_names_apart() -> None:
    network = Network(body=torch.nn.Identity(), spec=SPEC).bfloat16()
    rows = torch.tensor([[1.0, 10.0, 998.0], [1.0, 10.0, 999.0]])
    first, second = network.standardize(rows)
    assert first.dtype == torch.bfloat16 and not torch.equal(first, second)
