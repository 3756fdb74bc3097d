"""Sentences as numbers: a vocabulary that is learned from the training part alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipeline.errors import ConfigError, DataError
from pipeline.spec import PADDING, UNKNOWN

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# N samples, T tokens of the longest that is kept


@dataclass(frozen=True, kw_only=True)
class Tokenization:
    """How text becomes tokens; whoever is built alike learns alike from the same sentences.

    kind             words: each is a token; bpe: frequent pieces of words (Sennrich, Haddow & Birch 2016); or the
                     tokenizer.json of a pre-trained model, taken as it is
    vocabulary_size  tokens at most, the two for padding and for what is unknown among them
    least_count      how often a word (bpe: a pair of pieces) is seen before it gets a number
    max_length       tokens of a sentence that are kept, from its beginning
    """

    kind: str
    vocabulary_size: int
    least_count: int
    lowercase: bool
    max_length: int

    def __post_init__(self) -> None:
        if self.kind not in ("words", "bpe") and not self.kind.endswith(".json"):
            raise ConfigError(
                f"data.source.tokenizer.kind={self.kind}: expected words, bpe, or the path of a tokenizer.json"
            )
        for name, least, example in (("vocabulary_size", 3, 20_000), ("least_count", 1, 2), ("max_length", 1, 64)):
            value = getattr(self, name)
            if value < least:
                raise ConfigError(
                    f"data.source.tokenizer.{name}={value}: expected {least} or more, such as "
                    f"data.source.tokenizer.{name}={example}"
                )

    def learn(self, sentences: Sequence[str]) -> "Tokenizer":
        """Raises DataError where the package is missing, or a file that it is to be read from."""
        try:
            from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
        except ImportError as error:
            raise DataError(
                "Text needs the package tokenizers, which is not installed. Type python -m pip install tokenizers."
            ) from error
        if self.kind.endswith(".json"):
            return self._read(Path(self.kind).expanduser())
        is_words = self.kind == "words"
        tokenizer = Tokenizer((models.WordLevel if is_words else models.BPE)(unk_token=UNKNOWN))
        steps = [normalizers.NFC(), *([normalizers.Lowercase()] if self.lowercase else [])]
        tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = (trainers.WordLevelTrainer if is_words else trainers.BpeTrainer)(
            vocab_size=self.vocabulary_size,
            min_frequency=self.least_count,
            special_tokens=[PADDING, UNKNOWN],  # numbered 0 and 1
            show_progress=False,
        )
        tokenizer.train_from_iterator(sentences, trainer)
        tokenizer.enable_truncation(self.max_length)
        return tokenizer

    def _read(self, path: Path) -> "Tokenizer":
        from tokenizers import Tokenizer

        if not path.is_file():
            raise DataError(f"data.source.tokenizer.kind={path} does not exist.")
        tokenizer = Tokenizer.from_buffer(path.read_bytes())
        first = tokenizer.id_to_token(0)
        if first is None or "pad" not in first.lower():
            raise DataError(
                f"{path}: its token number 0 is {first}, expected the one for padding, as BERT's and T5's tokenizers "
                "have it. Use data.source.tokenizer.kind=bpe with a model that is not pre-trained."
            )
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.max_length)
        return tokenizer


def fix_length(tokenizer: "Tokenizer", sentences: Sequence[str]) -> None:
    """From now on it fills whatever it encodes up to the longest of `sentences`, and cuts what is longer.

    Both are written into its JSON: whoever has that encodes as the network was trained.
    """
    longest = max(1, *(len(encoding.ids) for encoding in tokenizer.encode_batch(list(sentences))))
    tokenizer.enable_truncation(longest)
    tokenizer.enable_padding(pad_id=0, pad_token=PADDING, length=longest)


def encode(tokenizer: "Tokenizer", sentences: Sequence[str]) -> Tensor:
    """(N, T) in the smallest type that holds the vocabulary; the tokenizer's length is fixed."""
    numbers = [encoding.ids for encoding in tokenizer.encode_batch(list(sentences))]
    return torch.tensor(numbers, dtype=smallest_type(tokenizer.get_vocab_size()))


def smallest_type(vocabulary_size: int) -> torch.dtype:
    fitting = (torch.uint8, torch.int16, torch.int32)
    return next(each for each in fitting if vocabulary_size - 1 <= torch.iinfo(each).max)
