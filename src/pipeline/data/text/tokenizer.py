"""Sentences as numbers: a vocabulary that is learned from the training part alone."""

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

# N samples, T tokens of the longest that is kept

# What no reader sees and no keyboard shows: marks of direction, joiners, spaces of no width, variation selectors.
INVISIBLE = r"[\p{Cf}\p{Cc}\x{FE00}-\x{FE0F}&&[^\s]]"
# Scripts that put no spaces between words: a character, with the marks on it, is a word of its own (as Devlin et al.
# 2019 do for Chinese). So are emoji, flags being two letters each.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Bopomofo}\p{Yi}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
EMOJI = r"\p{Extended_Pictographic}[\x{1F3FB}-\x{1F3FF}]?|[\x{1F1E6}-\x{1F1FF}]{2}"
ALONE = rf"[{UNSPACED}]\p{{M}}*|{EMOJI}"

UNKNOWN_NAMES = (UNKNOWN, "<unk>")
MAX_UNKNOWN_SHARE = 0.2  # of the validation tokens
MAX_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Tokenization:
    """Settings of a tokenizer; the same settings learn the same from the same sentences.

    kind             words: each is a token; bpe: frequent pieces of words (Sennrich, Haddow & Birch 2016); or the
                     tokenizer.json of a pre-trained model, taken as it is
    vocabulary_size  tokens at most, the two for padding and for what is unknown among them
    least_count      how often a word (bpe: a pair of pieces) is seen before it gets a number
    max_length       tokens of a sentence that are kept, from its beginning
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
        # One form of what looks alike (é in one piece or two, 12 in wide digits); the Turkish İ as one letter.
        small = [normalizers.Lowercase(), normalizers.Replace("i\u0307", "i")] if self.lowercase else []
        seen = normalizers.Replace(Regex(INVISIBLE), "")
        tokenizer.normalizer = normalizers.Sequence([seen, normalizers.NFKC(), *small])
        apart = pre_tokenizers.Split(Regex(ALONE), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([apart, pre_tokenizers.Whitespace()])
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
        """Return what to type so that more words are known."""
        if self.kind.endswith(".json"):
            return "Take the tokenizer of a model for this language, or data.source.tokenizer.kind=bpe"
        if self.least_count > 1:
            return "Number rarer words, too: data.source.tokenizer.least_count=1"
        if self.kind == "words":
            return "Cut words into pieces: data.source.tokenizer.kind=bpe"
        return f"Learn more pieces: data.source.tokenizer.vocabulary_size={2 * self.vocabulary_size}, or add sentences"

    def _read(self, path: Path) -> "Tokenizer":
        from tokenizers import Tokenizer

        if not path.is_file():
            raise DataError(f"data.source.tokenizer.kind={path} does not exist.")
        try:
            tokenizer = Tokenizer.from_buffer(path.read_bytes())
        except Exception as problem:  # tokenizers raises nothing more special
            raise DataError(f"{path} is no tokenizer that can be read: {problem}. Put a whole copy there.") from problem
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
    """Make the tokenizer pad to the longest of `sentences`, and truncate what is longer.

    Both are written into its JSON: whoever has that encodes as the network was trained.
    """
    longest = max(1, *(len(encoding.ids) for encoding in tokenizer.encode_batch(list(sentences))))
    tokenizer.enable_truncation(longest)
    tokenizer.enable_padding(pad_id=0, pad_token=PADDING, length=longest)


def encode_sentences(tokenizer: "Tokenizer", sentences: Sequence[str]) -> Tensor:
    """Return token ids (N, T) in the smallest type that holds the vocabulary; the tokenizer's length is fixed."""
    numbers = [encoding.ids for encoding in tokenizer.encode_batch(list(sentences))]
    return torch.tensor(numbers, dtype=smallest_dtype(tokenizer.get_vocab_size()))


def warn_of_unknown_tokens(tokenizer: "Tokenizer", sentences: Sequence[str], remedy: str) -> None:
    """Warn where many validation tokens are unknown."""
    unknown = next((number for name in UNKNOWN_NAMES if (number := tokenizer.token_to_id(name)) is not None), None)
    tokens = strange = 0
    examples: dict[str, None] = {}  # in the order in which they come
    for sentence, encoding in zip(sentences, tokenizer.encode_batch(list(sentences)), strict=True):
        tokens += sum(encoding.attention_mask)
        for (start, end), number in zip(encoding.offsets, encoding.ids, strict=True):
            if number == unknown:
                strange += 1
                examples[sentence[start:end]] = None
    if strange > MAX_UNKNOWN_SHARE * tokens:
        shown = ", ".join(repr(each) for each in list(examples)[:MAX_EXAMPLES])
        log.warning(
            f"{strange:,} of the {tokens:,} validation tokens ({strange / tokens:.0%}) are not in the vocabulary, such "
            f"as {shown}: the network sees each as the same unknown one. {remedy}"
        )


def smallest_dtype(vocabulary_size: int) -> torch.dtype:
    fitting = (torch.uint8, torch.int16, torch.int32)
    return next(each for each in fitting if vocabulary_size - 1 <= torch.iinfo(each).max)
