"""Shard weights, gradients and the optimiser's states over the processes (FSDP: Zhao et al. 2023)."""

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

FULL = StateDictOptions(full_state_dict=True)
FULL_ON_CPU = StateDictOptions(full_state_dict=True, cpu_offload=True)


class ShardedStrategy(ModelParallelStrategy):
    """The strategy `trainer.strategy=fsdp`. Its checkpoints are whole files, like those of any other strategy, and
    each can resume from the other's.

    Not Lightning's FSDPStrategy: that shards around `training_step`, which here holds many optimiser steps.
    """

    def __init__(self, *, processes: int) -> None:
        super().__init__(data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the full state, as `optimizer.state_dict()`, in the first process; {} in the others."""
        assert self.model is not None
        named = get_optimizer_state_dict(self.model, optimizer, options=FULL_ON_CPU)
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
                "state": {names[number]: values for number, values in state["state"].items()},
                "param_groups": groups,
            }
            set_optimizer_state_dict(self.model, optimizer, named, options=FULL)
        return checkpoint

    def _names(self, optimizer: Optimizer) -> list[str]:
        """Return the names of parameters in the optimiser's order, which is not that of the network."""
        assert self.model is not None
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        ParallelStrategy.save_checkpoint(self, checkpoint, filepath, storage_options)


def shard_network(network: nn.Module, mesh: DeviceMesh) -> None:
    """Shard a network that is not sharded yet: large parts of its containers one by one, the rest together."""
    if isinstance(network, FSDPModule):
        return
    for parameter in network.parameters():
        parameter.data = parameter.data.contiguous()  # FSDP refuses channels_last
    for module in network.modules():
        if isinstance(module, nn.Sequential | nn.ModuleList):
            for part in module:
                if sum(parameter.numel() for parameter in part.parameters()) >= LEAST_PARAMETERS:
                    fully_shard(part, mesh=mesh)
    fully_shard(network, mesh=mesh)


def reshard(network: nn.Module) -> None:
    """Free the gathered weights: FSDP keeps some of them after a forward pass, for the backward pass that may come."""
    if isinstance(network, FSDPModule):
        network.reshard()


def full_tensor(value: Tensor) -> Tensor:
    """Return the whole of a tensor that may be sharded; then all processes must call it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def local_tensor(value: Tensor) -> Tensor:
    """Return the part of a tensor that is in this process; it shares memory with it."""
    return value.to_local() if isinstance(value, DTensor) else value


def distribute_like(value: Tensor, other: Tensor) -> Tensor:
    """Return a whole tensor on the device of `other`, sharded if that one is."""
    if isinstance(value, DTensor) or not isinstance(other, DTensor):
        return value.to(other.device)
    return distribute_tensor(value.to(other.device), other.device_mesh, other.placements)


def load_weights(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Load `weights`, which are whole in every process, into a module that may be sharded."""
    if any(isinstance(parameter, DTensor) for parameter in module.parameters()):
        set_model_state_dict(module, dict(weights), options=FULL)
    else:
        module.load_state_dict(weights)
