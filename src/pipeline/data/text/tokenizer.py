"""Sentences as token ids: a tokenizer whose vocabulary is learned from the training split alone."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from pipeline.constraints import PositiveInt, Range
from pipeline.errors import ConfigError, DataError, missing_package_error
from pipeline.spec import PADDING, UNKNOWN

if TYPE_CHECKING:
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)

# N samples, T tokens of the longest sentence, at most max_length

# Characters that are not visible: marks of direction, joiners, spaces without width, variation selectors.
INVISIBLE = r"[\p{Cf}\p{Cc}\x{FE00}-\x{FE0F}&&[^\s]]"
# Scripts without spaces between words: a character, with its marks, is a word of its own (as in Devlin et al. 2019 for
# Chinese). So are emoji; a flag is two letters.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Bopomofo}\p{Yi}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
EMOJI = r"\p{Extended_Pictographic}[\x{1F3FB}-\x{1F3FF}]?|[\x{1F1E6}-\x{1F1FF}]{2}"
ALONE = rf"[{UNSPACED}]\p{{M}}*|{EMOJI}"

UNKNOWN_NAMES = (UNKNOWN, "<unk>")
MAX_UNKNOWN_SHARE = 0.2  # of the validation tokens; more are warned of
MAX_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Tokenization:
    """Settings of a tokenizer. The same settings and sentences give the same tokenizer.

    kind             words: each word is a token; bpe: frequent pieces of words (Sennrich, Haddow & Birch 2016); or the
                     tokenizer.json of a pre-trained model, used without changes
    vocabulary_size  tokens at most, with the two for padding and for unknown words
    least_count      how often a word (bpe: a pair of pieces) must occur to get an id
    max_length       tokens that are kept from the beginning of a sentence
    """

    kind: str
    vocabulary_size: Annotated[int, Range(ge=3)]
    least_count: PositiveInt
    lowercase: bool
    max_length: PositiveInt

    def __post_init__(self) -> None:
        if self.kind not in ("words", "bpe") and not self.kind.endswith(".json"):
            raise ConfigError(
                f"data.source.tokenizer.kind={self.kind}: expected words, bpe, or the path of a tokenizer.json"
            )

    def learn(self, sentences: Sequence[str]) -> "Tokenizer":
        """Return a tokenizer learned from `sentences`. Raises DataError for a missing package or file."""
        try:
            from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
        except ImportError as error:
            raise missing_package_error("Text", "tokenizers") from error
        if self.kind.endswith(".json"):
            return self._read(Path(self.kind).expanduser())
        is_words = self.kind == "words"
        tokenizer = Tokenizer((models.WordLevel if is_words else models.BPE)(unk_token=UNKNOWN))
        # One form for characters that look alike (é as one character or two, 12 in wide digits); the Turkish İ is one
        # letter.
        lower = [normalizers.Lowercase(), normalizers.Replace("i\u0307", "i")] if self.lowercase else []
        visible = normalizers.Replace(Regex(INVISIBLE), "")
        tokenizer.normalizer = normalizers.Sequence([visible, normalizers.NFKC(), *lower])
        isolate = pre_tokenizers.Split(Regex(ALONE), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([isolate, pre_tokenizers.Whitespace()])
        trainer = (trainers.WordLevelTrainer if is_words else trainers.BpeTrainer)(
            vocab_size=self.vocabulary_size,
            min_frequency=self.least_count,
            special_tokens=[PADDING, UNKNOWN],  # numbered 0 and 1
            show_progress=False,
        )
        tokenizer.train_from_iterator(sentences, trainer)
        tokenizer.enable_truncation(self.max_length)
        return tokenizer

    @property
    def remedy(self) -> str:
        """Return what to type for fewer unknown words."""
        if self.kind.endswith(".json"):
            return "Use the tokenizer of a model for this language, or data.source.tokenizer.kind=bpe"
        if self.least_count > 1:
            return "Include rarer words: data.source.tokenizer.least_count=1"
        if self.kind == "words":
            return "Use pieces of words: data.source.tokenizer.kind=bpe"
        return f"Learn more pieces: data.source.tokenizer.vocabulary_size={2 * self.vocabulary_size}, or add sentences"

    def _read(self, path: Path) -> "Tokenizer":
        from tokenizers import Tokenizer

        if not path.is_file():
            raise DataError(f"data.source.tokenizer.kind={path} does not exist.")
        try:
            tokenizer = Tokenizer.from_buffer(path.read_bytes())
        except Exception as problem:  # tokenizers raises nothing more specific
            raise DataError(
                f"{path} is not a tokenizer that can be read: {problem}. Put a complete copy there."
            ) from problem
        first = tokenizer.id_to_token(0)
        if first is None or "pad" not in first.lower():
            raise DataError(
                f"{path}: its token 0 is {first}, expected the padding token, as in the tokenizers of BERT and T5. Use "
                "data.source.tokenizer.kind=bpe with a model that is not pre-trained."
            )
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.max_length)
        return tokenizer


def fix_length(tokenizer: "Tokenizer", sentences: Sequence[str]) -> None:
    """Make the tokenizer pad to the longest of `sentences`, and truncate longer ones.

    Both settings are in its JSON, with which a deployed model encodes sentences as in training.
    """
    longest = max(1, *(len(encoding.ids) for encoding in tokenizer.encode_batch(list(sentences))))
    tokenizer.enable_truncation(longest)
    tokenizer.enable_padding(pad_id=0, pad_token=PADDING, length=longest)


def encode_sentences(tokenizer: "Tokenizer", sentences: Sequence[str]) -> Tensor:
    """Return token ids (N, T) in the smallest type for the vocabulary, from a tokenizer of fixed length."""
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(sentences))]
    return torch.tensor(ids, dtype=smallest_dtype(tokenizer.get_vocab_size()))


def warn_of_unknown_tokens(tokenizer: "Tokenizer", sentences: Sequence[str], remedy: str) -> None:
    """Warn where many validation tokens are unknown."""
    unknown = next((number for name in UNKNOWN_NAMES if (number := tokenizer.token_to_id(name)) is not None), None)
    token_count = unknown_count = 0
    examples: dict[str, None] = {}  # in order of occurrence
    for sentence, encoding in zip(sentences, tokenizer.encode_batch(list(sentences)), strict=True):
        token_count += sum(encoding.attention_mask)
        for (start, end), number in zip(encoding.offsets, encoding.ids, strict=True):
            if number == unknown:
                unknown_count += 1
                examples[sentence[start:end]] = None
    if unknown_count > MAX_UNKNOWN_SHARE * token_count:
        listed = ", ".join(map(repr, list(examples)[:MAX_EXAMPLES]))
        log.warning(
            f"{unknown_count:,} of the {token_count:,} validation tokens ({unknown_count / token_count:.0%}) are not "
            f"in the vocabulary, such as {listed}: the network reads all of them as the same unknown token. {remedy}"
        )


def smallest_dtype(vocabulary_size: int) -> torch.dtype:
    """Return the smallest type for token ids below `vocabulary_size`."""
    types = (torch.uint8, torch.int16, torch.int32)
    return next(dtype for dtype in types if vocabulary_size - 1 <= torch.iinfo(dtype).max)
