"""Weights, gradients and the optimiser's states divided among the processes (FSDP: Zhao et al. 2023)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.strategies import ModelParallelStrategy, ParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from pipeline.training import checkpoints

LEAST_PARAMETERS = 100_000  # of a part of the network that is gathered by itself

WHOLE = StateDictOptions(full_state_dict=True)
WHOLE_IN_MEMORY = StateDictOptions(full_state_dict=True, cpu_offload=True)


class ShardedStrategy(ModelParallelStrategy):
    """`trainer.strategy=fsdp`. Its checkpoints are whole files, as those of any other strategy, and either can go on
    from the other's.

    Not Lightning's FSDPStrategy: that shards around `training_step`, which here holds many optimiser steps.
    """

    def __init__(self, *, processes: int) -> None:
        super().__init__(data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """As `optimizer.state_dict()` would be, whole, in the first process; {} in the others."""
        assert self.model is not None
        named = get_optimizer_state_dict(self.model, optimizer, options=WHOLE_IN_MEMORY)
        if not named:
            return {}
        numbers = {name: number for number, name in enumerate(self._names(optimizer))}
        groups: Any = named["param_groups"]
        states: Any = named["state"]
        return {
            "state": {numbers[name]: state for name, state in states.items()},
            "param_groups": [{**group, "params": [numbers[name] for name in group["params"]]} for group in groups],
        }

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        assert self.model is not None
        checkpoint = checkpoints.load_checkpoint(Path(checkpoint_path))
        load_weights(self.model, checkpoint["state_dict"])
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            names = self._names(optimizer)
            groups = [
                {**group, "params": [names[number] for number in group["params"]]} for group in state["param_groups"]
            ]
            named: Any = {
                "state": {names[number]: each for number, each in state["state"].items()},
                "param_groups": groups,
            }
            set_optimizer_state_dict(self.model, optimizer, named, options=WHOLE)
        return checkpoint

    def _names(self, optimizer: Optimizer) -> list[str]:
        """Of the parameters as the optimizer numbers them, which is not the order they have in the network."""
        assert self.model is not None
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        ParallelStrategy.save_checkpoint(self, checkpoint, filepath, storage_options)


def shard_network(network: nn.Module, mesh: DeviceMesh) -> None:
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


def reshard(network: nn.Module) -> None:
    """Leaves every process with its own parts alone: some are kept whole after a forward pass, for the one that may
    come next."""
    if isinstance(network, FSDPModule):
        network.reshard()


def full_tensor(value: Tensor) -> Tensor:
    """All of a tensor that is divided among the processes, which must all ask for it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def local_tensor(value: Tensor) -> Tensor:
    """What of it lies in this process; shares memory with it."""
    return value.to_local() if isinstance(value, DTensor) else value


def distribute_like(value: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, where `other` is; this process's part of it where that one is divided."""
    if isinstance(value, DTensor) or not isinstance(other, DTensor):
        return value.to(other.device)
    return distribute_tensor(value.to(other.device), other.device_mesh, other.placements)


def load_weights(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """`load_state_dict` for a module that may be divided; `weights` are whole, in every process."""
    if any(isinstance(each, DTensor) for each in module.parameters()):
        set_model_state_dict(module, dict(weights), options=WHOLE)
    else:
        module.load_state_dict(weights)
