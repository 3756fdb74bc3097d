"""Narrower types for classes of other packages, and for nodes that name no class.

`config.static.signature` reads these classes as source; nobody calls them. A class of another package is found by its
name and `defined_in`. Arguments that are not listed here keep their own annotations.
"""

from typing import Annotated, Literal

from pipeline.constraints import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Range,
    Seed,
)

NoLimit = Literal[-1] | PositiveInt


class Configuration:
    def __init__(self, seed: Seed, auto_resume: bool, init_from: str | None) -> None: ...


class BatchNode:
    def __init__(self, on_out_of_memory: Literal["stop", "halve"]) -> None: ...


class Trainer:
    defined_in = "pytorch_lightning.trainer.trainer"

    def __init__(
        self,
        accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"],
        strategy: Literal[
            "auto",
            "ddp",
            "ddp_find_unused_parameters_true",
            "ddp_find_unused_parameters_false",
            "fsdp",
            "fsdp_cpu_offload",
            "single_device",
            "deepspeed",
            "deepspeed_stage_1",
            "deepspeed_stage_2",
            "deepspeed_stage_2_offload",
            "deepspeed_stage_3",
            "deepspeed_stage_3_offload",
            "xla",
            "single_xla",
        ],
        num_nodes: PositiveInt,
        max_epochs: NoLimit | None,
        min_epochs: PositiveInt | None,
        max_steps: NoLimit,
        min_steps: PositiveInt | None,
        check_val_every_n_epoch: PositiveInt | None,
        log_every_n_steps: PositiveInt,
        accumulate_grad_batches: PositiveInt,
        gradient_clip_val: NonNegativeFloat | None,
        gradient_clip_algorithm: Literal["norm", "value"] | None,
        limit_train_batches: NonNegativeFloat | None,
        limit_val_batches: NonNegativeFloat | None,
        limit_test_batches: NonNegativeFloat | None,
        overfit_batches: NonNegativeFloat,
        reload_dataloaders_every_n_epochs: NonNegativeInt,
    ) -> None: ...


class EarlyStopping:
    defined_in = "pytorch_lightning.callbacks.early_stopping"

    def __init__(self, mode: Literal["min", "max"], patience: NonNegativeInt, min_delta: NonNegativeFloat) -> None: ...


class RandomAffine:
    defined_in = "kornia.augmentation._2d.geometric.affine"

    def __init__(
        self,
        translate: tuple[Probability, Probability] | None,
        scale: tuple[PositiveFloat, PositiveFloat]
        | tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat]
        | None,
        p: Probability,
    ) -> None: ...


class RandomGaussianNoise:
    defined_in = "kornia.augmentation._2d.intensity.gaussian_noise"

    def __init__(self, std: NonNegativeFloat, p: Probability) -> None: ...


class RandomHorizontalFlip:
    defined_in = "kornia.augmentation._2d.geometric.horizontal_flip"

    def __init__(self, p: Probability, p_batch: Probability) -> None: ...


class RandomVerticalFlip:
    defined_in = "kornia.augmentation._2d.geometric.vertical_flip"

    def __init__(self, p: Probability, p_batch: Probability) -> None: ...


class RandomErasing:
    defined_in = "kornia.augmentation._2d.intensity.erasing"

    def __init__(
        self, scale: tuple[Fraction, Fraction], ratio: tuple[PositiveFloat, PositiveFloat], p: Probability
    ) -> None: ...


class TPESampler:
    defined_in = "optuna.samplers._tpe.sampler"

    def __init__(self, n_startup_trials: NonNegativeInt, n_ei_candidates: PositiveInt, seed: Seed | None) -> None: ...


class NSGAIISampler:
    defined_in = "optuna.samplers.nsgaii._sampler"

    def __init__(self, population_size: Annotated[int, Range(ge=2)], seed: Seed | None) -> None: ...


class CmaEsSampler:
    defined_in = "optuna.samplers._cmaes"

    def __init__(self, n_startup_trials: PositiveInt, seed: Seed | None) -> None: ...


class GPSampler:
    defined_in = "optuna.samplers._gp.sampler"

    def __init__(self, n_startup_trials: PositiveInt, seed: Seed | None) -> None: ...


class QMCSampler:
    defined_in = "optuna.samplers._qmc"

    def __init__(self, qmc_type: Literal["halton", "sobol"], seed: Seed | None) -> None: ...


class MedianPruner:
    defined_in = "optuna.pruners._median"

    def __init__(
        self, n_startup_trials: NonNegativeInt, n_warmup_steps: NonNegativeInt, interval_steps: PositiveInt
    ) -> None: ...


class HyperbandPruner:
    defined_in = "optuna.pruners._hyperband"

    def __init__(
        self,
        min_resource: PositiveInt,
        max_resource: PositiveInt | Literal["auto"],
        reduction_factor: Annotated[int, Range(ge=2)],
    ) -> None: ...


class SuccessiveHalvingPruner:
    defined_in = "optuna.pruners._successive_halving"

    def __init__(
        self, min_resource: PositiveInt | Literal["auto"], reduction_factor: Annotated[int, Range(ge=2)]
    ) -> None: ...


class PatientPruner:
    defined_in = "optuna.pruners._patient"

    def __init__(self, patience: NonNegativeInt, min_delta: NonNegativeFloat) -> None: ...
