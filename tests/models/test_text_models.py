"""Models of text: padding never counts, and what they cannot take is refused."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.models.bag_of_words import BagOfWords
from pipeline.models.network import Network
from pipeline.models.ngrams import HASH_MULTIPLIER, Ngrams
from pipeline.models.recurrent import Recurrent, reverse_sequences
from pipeline.models.text_cnn import TextCNN
from pipeline.models.transformer import Transformer
from pipeline.spec import DataSpec

LENGTH = 20
SPEC = DataSpec("reviews", "text", "binary", (LENGTH,), ("no", "yes"), (), (), vocabulary_size=50)
READING: dict[str, Any] = {"width": 8, "hidden": 6, "depth": 2, "bidirectional": True}
MODELS = {
    "bag_of_words": lambda: BagOfWords(spec=SPEC, width=8, pair_buckets=100, dropout=0.0),
    "ngrams": lambda: Ngrams(spec=SPEC, longest=3, buckets=100),
    "text_cnn": lambda: TextCNN(spec=SPEC, width=8, channels=6, windows=[1, 3, 5], embedding_dropout=0.0, dropout=0.0),
    "gru": lambda: Recurrent(spec=SPEC, cell="gru", embedding_dropout=0.0, dropout=0.0, **READING),
    "lstm": lambda: Recurrent(spec=SPEC, cell="lstm", embedding_dropout=0.0, dropout=0.0, **READING),
    "transformer": lambda: Transformer(spec=SPEC, width=8, heads=2, depth=2, dropout=0.0),
}
each_model = pytest.mark.parametrize("name", MODELS)


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return Network(body=MODELS[name](), spec=SPEC)


def sentences(length: int) -> torch.Tensor:
    return torch.randint(1, 50, (4, length), generator=torch.Generator().manual_seed(0), dtype=torch.int16)


@each_model
def test_more_padding_changes_nothing(name: str) -> None:
    model = network(name).eval()
    for length in (1, 2, 9):
        tokens = sentences(length)
        scores = [model(F.pad(tokens, (0, padding))) for padding in (0, 1, LENGTH - length)]
        torch.testing.assert_close(scores[0], scores[1], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(scores[0], scores[2], rtol=1e-5, atol=1e-6)


@each_model
def test_a_sentence_without_a_word_has_a_finite_score_and_gradient(name: str) -> None:
    model = network(name)
    model(torch.zeros(2, LENGTH, dtype=torch.uint8)).sum().backward()
    assert all(each.grad is None or each.grad.isfinite().all() for each in model.parameters())


@each_model
def test_order_counts(name: str) -> None:
    model, tokens = network(name).eval(), sentences(9)
    assert not torch.allclose(model(tokens), model(tokens.flip(1)), atol=1e-5)


@each_model
def test_it_leaves_python_as_a_graph_that_takes_batches_of_any_size(name: str) -> None:
    model = network(name).eval()
    batch = torch.export.Dim("batch", min=1)
    graph = torch.export.export(model, (F.pad(sentences(9), (0, LENGTH - 9)),), dynamic_shapes=({0: batch},)).module()
    seven = F.pad(sentences(9), (0, LENGTH - 9)).repeat(2, 1)[:7]
    torch.testing.assert_close(graph(seven), model(seven), rtol=1e-4, atol=1e-5)


def test_ngrams_add_up_words_and_runs_over_the_root_of_the_length() -> None:
    model = Ngrams(spec=SPEC, longest=3, buckets=10_000)
    (pairs, triples), place = (
        model.runs,
        lambda *run: sum(HASH_MULTIPLIER**power * each for power, each in enumerate(run[::-1])),
    )
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
        model.words.weight[5], pairs.weight[place(5, 6) % 10_000] = 1.0, 10.0
        triples.weight[place(5, 6, 7) % 10_000], model.bias[0] = 100.0, 0.5
    scores = model(torch.tensor([[5, 6, 7, 0], [5, 6, 0, 0], [5, 0, 0, 0], [7, 6, 5, 0], [0, 0, 0, 0]]))
    expected = [111 / 3**0.5 + 0.5, 11 / 2**0.5 + 0.5, 1.5, 1 / 3**0.5 + 0.5, 0.5]
    torch.testing.assert_close(scores.flatten(), torch.tensor(expected))


def test_a_sentence_is_turned_round_and_its_padding_is_not() -> None:
    vectors = torch.arange(5.0).reshape(1, 5, 1)
    present = torch.tensor([[True, True, True, False, False]])
    assert reverse_sequences(vectors, present).flatten().tolist() == [2, 1, 0, 3, 4]
