"""Text models of the package transformers."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.models.layers.input_checks import PAD, import_optional
from pipeline.spec import DataSpec, Kind

# B batch, T tokens, K outputs

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


class HuggingFace(nn.Module):
    """A model of Hugging Face that classifies sentences (Wolf et al. 2020), new or pre-trained.

    `architecture` is the model_type of config.json, `settings` are values of its configuration. `pretrained` is a
    folder with config.json and model.safetensors, which replace both. Weights in another format, which could hold code,
    and code that comes with a model are not loaded.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("text",)

    def __init__(
        self, *, spec: DataSpec, architecture: str, settings: Mapping[str, Any], pretrained: str | None
    ) -> None:
        super().__init__()
        if spec.kind != "text":
            raise ConfigError(f"model=hugging_face takes text; {spec.name} has {spec.kind} data: use model=mlp")
        folder = None if pretrained is None else resolve_weights_folder(pretrained)
        transformers = import_optional("transformers", model="hugging_face")
        transformers.utils.logging.set_verbosity_error()  # it would warn of the new head, which is intended
        transformers.utils.logging.disable_progress_bar()
        if folder is None:
            self.model = build_from_settings(transformers, spec, architecture, settings)
        else:
            self.model = load_from_folder(transformers, spec, folder)
        longest = getattr(self.model.config, "max_position_embeddings", None)
        if longest is not None and spec.input_shape[0] > longest:
            raise ConfigError(
                f"this model takes sentences of up to {longest} tokens, {spec.name} has some of {spec.input_shape[0]}: "
                f"use data.source.tokenizer.max_length={longest}"
            )

    def forward(self, inputs: Tensor) -> Tensor:  # (B, T) -> (B, K)
        tokens = inputs.long()
        # A sentence without words attends to its first place: softmax over nothing would give NaN.
        seen = (tokens != PAD) | (torch.arange(tokens.shape[1], device=tokens.device) == 0)
        scores: Tensor = self.model(input_ids=tokens, attention_mask=seen.long()).logits
        return scores


def build_from_settings(transformers: Any, spec: DataSpec, architecture: str, settings: Mapping[str, Any]) -> nn.Module:
    if "/" in str(settings.get("attn_implementation")):
        raise ConfigError(
            f"model.settings.attn_implementation={settings['attn_implementation']} would fetch code from a hub: choose "
            "eager, sdpa or flash_attention_2"
        )
    facts = {"vocab_size": spec.vocabulary_size, "pad_token_id": PAD, "num_labels": spec.num_outputs}
    try:
        config = transformers.AutoConfig.for_model(architecture, **{**settings, **facts})
        model: nn.Module = transformers.AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    except (ValueError, KeyError, TypeError) as problem:
        reason = re.split(r"\.\s| Should contain", str(problem))  # the rest lists some hundred architectures
        raise ConfigError(
            f"model.architecture={architecture}: {reason[0]}. Expected one that classifies sentences and settings that "
            "fit it, such as bert, distilbert or electra"
        ) from problem
    return model


def load_from_folder(transformers: Any, spec: DataSpec, folder: Path) -> nn.Module:
    safely = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, num_labels=spec.num_outputs, **safely)
        known = tokenizer_size(folder, config.vocab_size)
        if known != spec.vocabulary_size:
            raise ConfigError(
                f"model.pretrained={folder} knows {known:,} tokens, {spec.name} has {spec.vocabulary_size:,} of "
                f"its own: number the words as the model does, data.source.tokenizer.kind={folder / 'tokenizer.json'}"
            )
        model: nn.Module = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, config=config, use_safetensors=True, ignore_mismatched_sizes=True, **safely
        )
    except (OSError, ValueError) as problem:
        raise ConfigError(f"model.pretrained={folder} cannot be loaded: {problem}") from problem
    return model


def tokenizer_size(folder: Path, otherwise: int) -> int:
    """Return the number of tokens of its tokenizer, because a model may have a larger vocabulary than it uses."""
    tokenizer = folder / "tokenizer.json"
    return len(json.loads(tokenizer.read_bytes())["model"]["vocab"]) if tokenizer.is_file() else otherwise


def resolve_weights_folder(name: str) -> Path:
    folder = Path(name).expanduser().resolve()
    if not (folder / "config.json").is_file() or not any((folder / each).is_file() for each in WEIGHTS):
        found = ", ".join(sorted(path.name for path in folder.glob("*"))) if folder.is_dir() else "no such folder"
        raise ConfigError(
            f"model.pretrained={name}: expected a folder with config.json and model.safetensors; found "
            f"{found or 'nothing'}"
        )
    return folder
