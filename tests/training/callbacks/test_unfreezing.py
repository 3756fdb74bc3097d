"""A frozen backbone stands still, joins stage by stage, and a resumed run freezes as the uninterrupted one did."""

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.training.callbacks.averaging import EMA
from pipeline.training.callbacks.monitors import GradientNorm
from pipeline.training.callbacks.unfreezing import Unfreezing, network_stages

# The network is blocks.0, blocks.1 and head; 20 steps an epoch


def unfreezing(**changes: Any) -> Unfreezing:
    return Unfreezing(**({"frozen_epochs": 1, "epochs_per_stage": 1, "head": []} | changes))


class Weights(pl.Callback):
    """Weights and buffers of each part as they were at the end of each epoch."""

    def __init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        body: Any = pl_module.network.body
        self.seen.append({name: value.clone() for name, value in body.state_dict().items()})

    def moved(self, epoch: int) -> set[str]:
        before, after = self.seen[epoch], self.seen[epoch + 1]
        changed = {name for name in after if not torch.equal(before[name], after[name])}
        return {".".join(name.split(".")[:2]) if name.startswith("blocks") else "head" for name in changed}


def test_frozen_stages_join_the_head_one_after_another(fit: Callable[..., Any]) -> None:
    weights = Weights()
    _, learner, _ = fit(callbacks=lambda: [unfreezing(), weights])
    assert [weights.moved(epoch) for epoch in range(3)] == [
        {"head"},
        {"head", "blocks.1"},
        {"head", "blocks.1", "blocks.0"},
    ]
    assert all(each.requires_grad for each in learner.parameters())


def test_all_frozen_stages_can_join_the_head_at_once(fit: Callable[..., Any]) -> None:
    weights = Weights()
    fit(callbacks=lambda: [unfreezing(epochs_per_stage=0), weights], epochs=2)
    assert weights.moved(0) == {"head"} and weights.moved(1) == {"head", "blocks.1", "blocks.0"}


@pytest.mark.parametrize("step", [5, 20, 27, 41])
def test_a_run_with_unfreezing_resumed_at_any_step_matches_the_uninterrupted_run(
    fit: Callable[..., Any], tmp_path: Any, step: int
) -> None:
    def callbacks() -> list[pl.Callback]:
        return [unfreezing(), EMA(decay=0.98), GradientNorm()]

    _, whole, _ = fit(tmp_path / "whole", callbacks=callbacks)
    fit(tmp_path / "parts", callbacks=callbacks, interrupt_at=step)
    trainer, resumed, _ = fit(tmp_path / "parts", callbacks=callbacks)
    assert trainer.global_step == 60
    ours, theirs = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_dropping_gradients_of_frozen_weights_equals_not_computing_them(
    fit: Callable[..., Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, spared, _ = fit(tmp_path / "spared", callbacks=lambda: [unfreezing()], epochs=2)
    from pipeline.training.callbacks import unfreezing as module

    freeze = module.freeze
    monkeypatch.setattr(module, "freeze", lambda *parts, **_: freeze(*parts, skip_gradients=False))
    _, dropped, _ = fit(tmp_path / "dropped", callbacks=lambda: [unfreezing()], epochs=2)
    ours, theirs = spared.state_dict(), dropped.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


class TestStages:
    def test_wrappers_and_containers_are_split_into_stages_and_blocks_are_not(self) -> None:
        block = nn.Module()
        block.first, block.second = nn.Linear(4, 4), nn.Linear(4, 4)
        encoder = nn.Module()
        encoder.layer = nn.ModuleList([block, nn.Linear(4, 4), nn.Linear(4, 4)])
        body = nn.Module()
        body.embedding, body.encoder, body.dropout, body.head = (
            nn.Embedding(5, 4),
            encoder,
            nn.Dropout(),
            nn.Linear(4, 2),
        )
        wrapper = nn.Module()
        wrapper.model = body
        expected = [[body.embedding], [block], [encoder.layer[1]], [encoder.layer[2]], [body.head]]
        assert network_stages(wrapper, head=[]) == expected

    def test_the_head_of_a_network_can_be_named(self) -> None:
        body = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
        assert network_stages(body, head=["1", "3"]) == [[body[0]], [body[1], body[3]]]
        with pytest.raises(ConfigError, match=r"there is no part fc; this network has 0, 1, 3"):
            network_stages(body, head=["fc"])

    def test_unfreezing_refuses_a_network_with_only_one_part(self) -> None:
        with pytest.raises(ConfigError, match=r"has only one part, .*: callbacks=default"):
            network_stages(nn.Sequential(nn.Flatten(), nn.Linear(3, 3)), head=[])
