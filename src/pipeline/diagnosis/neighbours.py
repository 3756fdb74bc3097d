"""What the nearest training samples say of a sample: a judge that has learned nothing, and so nothing by heart.

Of a training sample it is asked without that sample (Cover & Hart 1967; leave one out).
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.dataset import Split
from pipeline.data.loader import EvaluationLoader
from pipeline.diagnosis.symptoms import Pair, Scored
from pipeline.spec import DataSpec

# N training samples, M asked about, F features, K classes, k neighbours

NEIGHBOURS = 10
LARGEST_SIDE = 16  # pixels; what is finer tells pictures apart by where exactly things stand
BUCKETS = 4096  # of words, by their numbers
ASKED_AT_A_TIME = 1024  # bounds the memory


def by_neighbours(train: Split, validation: Split, spec: DataSpec, scale: nn.Module, ids: Tensor) -> Pair:
    """`scale` brings raw inputs to their standard deviations; `ids` (N,) are the rows of the training samples."""
    known, asked = (features(part, spec, scale) for part in (train, validation))
    around = nearest(known, known, without_itself=True), nearest(asked, known, without_itself=False)
    votes = _means if spec.task == "regression" else _shares
    return Pair(
        votes(train.targets[around[0]], train, spec, ids),
        votes(train.targets[around[1]], validation, spec, torch.arange(len(validation))),
    )


@torch.no_grad()
def features(part: Split, spec: DataSpec, scale: nn.Module) -> Tensor:
    """(N, F) whose distances say how alike samples are."""
    batches = EvaluationLoader(part, batch_size=ASKED_AT_A_TIME)
    if spec.kind == "text":
        return _weighted(torch.cat([_counted(batch.inputs) for batch in batches]))
    return torch.cat([_pooled(scale(batch.inputs)).flatten(1).float() for batch in batches])


def _pooled(scaled: Tensor) -> Tensor:
    """Pictures and spectrograms (B, C, H, W), made small; rows of a table (B, F) as they are."""
    if scaled.ndim != 4:
        return scaled
    height, width = scaled.shape[2:]
    return F.adaptive_avg_pool2d(scaled, (min(height, LARGEST_SIDE), min(width, LARGEST_SIDE)))


def _counted(inputs: Tensor) -> Tensor:
    """Of sentences (B, tokens): how often each word occurs."""
    tokens = inputs.long()
    return torch.zeros(len(tokens), BUCKETS).scatter_add_(1, tokens % BUCKETS, (tokens > 0).float())


def _weighted(counts: Tensor) -> Tensor:
    """Rare words count more (Sparck Jones 1972), and long sentences as much as short ones."""
    weights = torch.log(len(counts) / (1 + (counts > 0).sum(dim=0)))
    return F.normalize(counts.log1p() * weights.clamp(min=0), dim=1)


def nearest(asked: Tensor, known: Tensor, *, without_itself: bool) -> Tensor:
    """(M, k) rows of `known` with the least Euclidean distance."""
    count = min(NEIGHBOURS, len(known) - without_itself)
    found = []
    for first in range(0, len(asked), ASKED_AT_A_TIME):
        distances = torch.cdist(asked[first : first + ASKED_AT_A_TIME], known)
        if without_itself:
            rows = torch.arange(len(distances))
            distances[rows, first + rows] = torch.inf
        found.append(distances.topk(count, largest=False).indices)
    return torch.cat(found)


def _shares(labels: Tensor, part: Split, spec: DataSpec, ids: Tensor) -> Scored:
    """(M, k) labels of the neighbours -> (M, K) shares of them; a class that none has costs like half a neighbour."""
    votes = F.one_hot(labels, spec.num_classes).float().mean(dim=1)
    given = votes.gather(1, part.targets[:, None]).squeeze(1)
    losses = -given.clamp(min=0.5 / labels.shape[1]).log()
    return Scored(votes.numpy(), part.targets.numpy(), losses.numpy(), ids.numpy())


def _means(numbers: Tensor, part: Split, spec: DataSpec, ids: Tensor) -> Scored:
    """(M, k, T) numbers of the neighbours -> (M, T) their mean."""
    predicted, true = numbers.mean(dim=1).numpy(), part.targets.numpy()
    scale = np.array([value if value > 0 else 1.0 for value in spec.target_std])
    losses = np.square((predicted - true) / scale).mean(axis=1)
    return Scored(predicted, true, losses, ids.numpy())
