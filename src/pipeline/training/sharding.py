"""Weights, gradients and the optimiser's states divided among the processes (FSDP: Zhao et al. 2023)."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.strategies import ModelParallelStrategy, ParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

LEAST_PARAMETERS = 100_000  # of a part of the network that is gathered by itself


class Sharded(ModelParallelStrategy):
    """`trainer.strategy=fsdp`. Its checkpoints are whole files, as those of any other strategy, and either can go on
    from the other's.

    Not Lightning's FSDPStrategy: that shards around `training_step`, which here holds many optimiser steps.
    """

    def __init__(self, *, processes: int) -> None:
        super().__init__(data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        ParallelStrategy.save_checkpoint(self, checkpoint, filepath, storage_options)


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Once. Large parts that follow each other in a container are gathered one after the other, the rest together."""
    if isinstance(network, FSDPModule):
        return
    for parameter in network.parameters():
        parameter.data = parameter.data.contiguous()  # also what lies channels_last: FSDP takes nothing else
    for module in network.modules():
        if isinstance(module, nn.Sequential | nn.ModuleList):
            for part in module:
                if sum(each.numel() for each in part.parameters()) >= LEAST_PARAMETERS:
                    fully_shard(part, mesh=mesh)
    fully_shard(network, mesh=mesh)


def whole(value: Tensor) -> Tensor:
    """All of a tensor that is divided among the processes, which must all ask for it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def own_part(value: Tensor) -> Tensor:
    """What of it lies in this process; shares memory with it."""
    return value.to_local() if isinstance(value, DTensor) else value


def divided_as(value: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, where `other` is; this process's part of it where that one is divided."""
    if isinstance(value, DTensor) or not isinstance(other, DTensor):
        return value.to(other.device)
    return distribute_tensor(value.to(other.device), other.device_mesh, other.placements)


def load_weights(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """`load_state_dict` for a module that may be divided; `weights` are whole, in every process."""
    if any(isinstance(each, DTensor) for each in module.parameters()):
        set_model_state_dict(module, dict(weights), options=StateDictOptions(full_state_dict=True))
    else:
        module.load_state_dict(weights)
