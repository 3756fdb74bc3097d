"""What the nearest training samples say of a sample: a judge that has learned nothing, and so nothing by heart.

Of a training sample it is asked without that sample (Cover & Hart 1967; leave one out).
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.loading import EvaluationLoader
from pipeline.data.source import Part
from pipeline.lifecycle.diagnosis.symptoms import Pair, Scored
from pipeline.spec import DataSpec

# N training samples, M asked about, F features, K classes, k neighbours

NEIGHBOURS = 10
LARGEST_SIDE = 16  # pixels; what is finer tells pictures apart by where exactly things stand
BUCKETS = 4096  # of words, by their numbers
ASKED_AT_A_TIME = 1024  # bounds the memory


def by_neighbours(train: Part, validation: Part, spec: DataSpec, scale: nn.Module, ids: Tensor) -> Pair:
    """`scale` brings raw inputs to their standard deviations; `ids` (N,) are the rows of the training samples."""
    known, asked = (features(part, spec, scale) for part in (train, validation))
    around = nearest(known, known, without_itself=True), nearest(asked, known, without_itself=False)
    votes = _means if spec.task == "regression" else _shares
    return Pair(
        votes(train.targets[around[0]], train, spec, ids),
        votes(train.targets[around[1]], validation, spec, torch.arange(len(validation))),
    )


@torch.no_grad()
def features(part: Part, spec: DataSpec, scale: nn.Module) -> Tensor:
    """(N, F) whose distances say how alike samples are."""
    extract = EXTRACTED.get(spec.kind, _scaled)
    batches = EvaluationLoader(part, batch_size=ASKED_AT_A_TIME)
    found = torch.cat([extract(batch.inputs, scale) for batch in batches])
    return _weighted(found) if spec.kind == "text" else found


def _scaled(inputs: Tensor, scale: nn.Module) -> Tensor:
    values: Tensor = scale(inputs)
    return values.flatten(1).float()


def _pooled(inputs: Tensor, scale: nn.Module) -> Tensor:
    """Of pictures (B, C, H, W)."""
    size = (min(inputs.shape[2], LARGEST_SIDE), min(inputs.shape[3], LARGEST_SIDE))
    return F.adaptive_avg_pool2d(scale(inputs), size).flatten(1).float()


def _counted(inputs: Tensor, scale: nn.Module) -> Tensor:
    """Of sentences (B, tokens): how often each word occurs."""
    tokens = inputs.long()
    return torch.zeros(len(tokens), BUCKETS).scatter_add_(1, tokens % BUCKETS, (tokens > 0).float())


def _weighted(counts: Tensor) -> Tensor:
    """Rare words count more (Sparck Jones 1972), and long sentences as much as short ones."""
    weights = torch.log(len(counts) / (1 + (counts > 0).sum(dim=0)))
    return F.normalize(counts.log1p() * weights.clamp(min=0), dim=1)


EXTRACTED: dict[str, Callable[[Tensor, nn.Module], Tensor]] = {"image": _pooled, "text": _counted}


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


def _shares(labels: Tensor, part: Part, spec: DataSpec, ids: Tensor) -> Scored:
    """(M, k) labels of the neighbours -> (M, K) shares of them; a class that none has costs like half a neighbour."""
    votes = F.one_hot(labels, spec.num_classes).float().mean(dim=1)
    given = votes.gather(1, part.targets[:, None]).squeeze(1)
    losses = -given.clamp(min=0.5 / labels.shape[1]).log()
    return Scored(votes.numpy(), part.targets.numpy(), losses.numpy(), ids.numpy())


def _means(numbers: Tensor, part: Part, spec: DataSpec, ids: Tensor) -> Scored:
    """(M, k, T) numbers of the neighbours -> (M, T) their mean."""
    predicted, true = numbers.mean(dim=1).numpy(), part.targets.numpy()
    scale = np.array([value if value > 0 else 1.0 for value in spec.target_std])
    losses = np.square((predicted - true) / scale).mean(axis=1)
    return Scored(predicted, true, losses, ids.numpy())
