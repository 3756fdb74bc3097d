"""Fine-tune weights that were trained elsewhere: frozen at first, they join training one stage after another."""

from collections.abc import Iterator, Sequence

import pytorch_lightning as pl
from torch import nn
from torch.optim import Optimizer

from pipeline.constraints import NonNegativeInt
from pipeline.errors import ConfigError
from pipeline.training.distributed.sharding import ShardedStrategy


class Unfreezing(pl.Callback):
    """Gradual unfreezing (Howard & Ruder 2018, section 3.3), for weights from `init_from` or a pre-trained model.

    For `frozen_epochs` epochs the head learns alone; then the stage next to it joins, and `epochs_per_stage` epochs
    later the one before that (0: all at once). The stages that learn depend on the epoch alone, so that a resumed run
    equals the uninterrupted one. A frozen stage is in evaluation mode: no dropout, and batch norm's running statistics
    do not change.

    `head` lists modules of the network by the ends of their names; an empty list means the last stage.
    """

    def __init__(self, *, frozen_epochs: NonNegativeInt, epochs_per_stage: NonNegativeInt, head: Sequence[str]) -> None:
        self.frozen_epochs = frozen_epochs
        self.epochs_per_stage = epochs_per_stage
        self.head = list(head)
        self.frozen: list[nn.Parameter] = []  # their gradients are dropped if they are computed anyway

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if isinstance(trainer.strategy, ShardedStrategy):
            raise ConfigError(
                "callbacks.unfreezing needs whole weights in each process, which trainer.strategy=fsdp does not have: "
                "use trainer.strategy=ddp"
            )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        body = model_body(pl_module)
        stages = network_stages(body, head=self.head)
        count = self.learning_stages(trainer.current_epoch, len(stages))
        learning = [body] if count == len(stages) else [module for stage in stages[-count:] for module in stage]
        # DDP waits for the gradient of each weight that it had at its start: there gradients are dropped afterwards.
        self.frozen = freeze(body, learning, skip_gradients=trainer.world_size == 1)

    def learning_stages(self, epoch: int, stages: int) -> int:
        """Return how many stages learn, counted from the head."""
        if epoch < self.frozen_epochs:
            return 1
        if self.epochs_per_stage == 0:
            return stages
        return min(stages, 2 + (epoch - self.frozen_epochs) // self.epochs_per_stage)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        for parameter in self.frozen:
            parameter.grad = None  # before clipping, in which gradients of frozen weights must not count

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        model_body(pl_module).requires_grad_(True)


def model_body(module: pl.LightningModule) -> nn.Module:
    """Return the model itself, without the input scaling that a Learner's network has around it."""
    network = getattr(module, "network", module)
    body = getattr(network, "body", network)
    assert isinstance(body, nn.Module)
    return body


def network_stages(body: nn.Module, *, head: Sequence[str]) -> list[list[nn.Module]]:
    """Return the parts of a network that have weights, in the order of their definition; the last is the head.

    Raise ConfigError if there are fewer than two, or if `head` has a name that no part has.
    """
    parts = list(_parts(body, most=_size(body) // 2))
    unknown = [name for name in head if not any(_ends_with(part, name) for part, _ in parts)]
    if unknown:
        raise ConfigError(
            f"callbacks.unfreezing.head: there is no part {unknown[0]}; this network has "
            f"{', '.join(name for name, _ in parts)}"
        )
    named = {part for part, _ in parts if any(_ends_with(part, name) for name in head)} or {parts[-1][0]}
    stages = [[module] for part, module in parts if part not in named]
    if not stages:
        raise ConfigError(
            f"callbacks.unfreezing: {type(body).__name__} has only one part, so there is nothing to freeze; leave it "
            "out: callbacks=default"
        )
    return [*stages, [module for part, module in parts if part in named]]


def _parts(module: nn.Module, most: int, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield parts by name. Lists of blocks, wrappers, and modules of blocks with more than `most` weights are split;
    a block of layers is one part."""
    children = _with_weights(module)
    for inner, child in children:
        path = f"{name}.{inner}" if name else inner
        inside = _with_weights(child)
        has_blocks = any(_with_weights(block) for _, block in inside)
        is_list = isinstance(child, nn.Sequential | nn.ModuleList) or _size(child) > most
        if inside and (len(inside) == 1 or len(children) == 1 or (has_blocks and is_list)):
            yield from _parts(child, most, path)
        else:
            yield path, child


def _with_weights(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, child) for name, child in module.named_children() if _size(child) > 0]


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _ends_with(path: str, name: str) -> bool:
    return f".{path}".endswith(f".{name}")


def freeze(body: nn.Module, learning: Sequence[nn.Module], *, skip_gradients: bool) -> list[nn.Parameter]:
    """Freeze all weights but those of the learning parts, and return them."""
    free = {id(parameter) for module in learning for parameter in module.parameters()}
    frozen = [parameter for parameter in body.parameters() if id(parameter) not in free]
    body.requires_grad_(True)
    body.train(not frozen)
    for module in learning:
        module.train()
    for parameter in frozen if skip_gradients else []:
        parameter.requires_grad_(False)
        parameter.grad = None
    return frozen
