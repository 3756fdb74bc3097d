"""The source for a user's own sentences and their classes, in CSV, TSV or JSON lines files."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import torch

from pipeline.constraints import ProperFraction, Seed
from pipeline.data.bad_samples import skip_or_fail
from pipeline.data.dataset import SPLIT_NAMES, Split, Splits
from pipeline.data.duplicates import warn_of_duplicates
from pipeline.data.splitting import factorize, split_rows
from pipeline.data.targets import classification_task, encode_labels, split_labels
from pipeline.data.text.text_rows import BadRow, TextSample, read_text_rows
from pipeline.data.text.tokenizer import Tokenization, encode_sentences, fix_length, warn_of_unknown_tokens
from pipeline.errors import ConfigError, DataError
from pipeline.spec import Kind

Samples = list[TextSample]
Rows = list[TextSample | BadRow]


class TextTable:
    """Sentences in files below data.root. Splits without a file are taken from `train` by their shares.

    text, label      columns by name, or by number from 0; columns of JSON lines by name alone
    label_separator  separates the labels of a sample, of which there may be any number; None: a cell is one label
    on_bad_sample    fail: a row that cannot be used ends the run; skip: it is left out and listed
    """

    kind: ClassVar[Kind] = "text"

    def __init__(
        self,
        *,
        name: str,
        train: str,
        validation: str | None,
        test: str | None,
        text: str | int,
        label: str | int,
        label_separator: str | None,
        header: bool,
        validation_share: ProperFraction,
        test_share: ProperFraction,
        split_seed: Seed,
        on_bad_sample: Literal["fail", "skip"],
        tokenizer: Tokenization,
    ) -> None:
        self.name = name
        self.files = {"train": train, "validation": validation, "test": test}
        self.text = text
        self.label = label
        self.separator = label_separator
        self.header = header
        self.shares = {"validation": validation_share, "test": test_share}
        self.split_seed = split_seed
        self.on_bad_sample = on_bad_sample
        self.tokenizer = tokenizer

    def load(self, root: Path | None) -> Splits:
        if root is None:
            raise DataError(f"{self.name} comes from files of yours: type in which folder, data.root=FOLDER")
        if root.is_file():
            raise ConfigError(
                f"data.root={root} is a file, expected the folder in which it is: data.root={root.parent} "
                f"data.source.train={root.name}"
            )
        rows = {split: self._read(root / file) for split, file in self.files.items() if file is not None}
        skipped, samples = self._skip_bad(rows), valid_samples(rows)
        if not samples["train"]:
            raise DataError(f"{root / str(self.files['train'])} has no sample: nothing can be learned from it.")
        if self.on_bad_sample == "skip":
            rows = {"train": mark_single_labels(samples["train"], self.separator)}
            skipped, samples = skipped + self._skip_bad(rows), samples | valid_samples(rows)
        check_label_counts(samples["train"], self.separator)
        samples |= self._split(samples["train"])
        names = label_names(samples["train"], self.separator)
        rows = {split: mark_unseen_labels(some, names, self.separator) for split, some in samples.items()}
        skipped, samples = skipped + self._skip_bad(rows), valid_samples(rows)
        warn_of_duplicates({split: [row.text for row in samples[split]] for split in SPLIT_NAMES}, "sentences")
        return replace(self._splits(samples, names), skipped=skipped)

    def _read(self, path: Path) -> Rows:
        may_be_unlabelled = self.separator is not None
        return read_text_rows(
            path, text=self.text, label=self.label, header=self.header, may_be_unlabelled=may_be_unlabelled
        )

    def _skip_bad(self, rows: Mapping[str, Rows]) -> tuple[str, ...]:
        every = [row for some in rows.values() for row in some]
        bad = [str(row) for row in every if isinstance(row, BadRow)]
        return skip_or_fail(bad, on_bad_sample=self.on_bad_sample, of=len(every), what="rows")

    def _split(self, train: Samples) -> dict[str, Samples]:
        """Split the training samples; empty where each split has a file."""
        shares = {split: share for split, share in self.shares.items() if self.files[split] is None}
        if not shares:
            return {}
        rows = split_rows(factorize([row.label for row in train]), shares, seed=self.split_seed)
        return {split: [train[row] for row in some] for split, some in rows.items()}

    def _splits(self, samples: Mapping[str, Samples], names: tuple[str, ...]) -> Splits:
        """Return splits whose inputs are indices into all texts; the tokenizer is fitted later."""
        texts = [row.text for split in SPLIT_NAMES for row in samples[split]]
        indices = torch.split(torch.arange(len(texts)), [len(samples[split]) for split in SPLIT_NAMES])
        targets = (encode_labels([row.label for row in samples[split]], names, self.separator) for split in SPLIT_NAMES)
        train, validation, test = map(Split, indices, targets)
        task = classification_task(names, self.separator)
        fit = partial(tokenize_splits, texts=texts, tokenization=self.tokenizer)
        return Splits(self.name, "text", task, names, train, validation, test, fit=fit)


def tokenize_splits(splits: Splits, *, texts: Sequence[str], tokenization: Tokenization) -> Splits:
    """Return the splits with token ids in place of indices into `texts`; the training split gives the vocabulary."""
    sentences = {name: [texts[index] for index in split.inputs[:].tolist()] for name, split in splits.by_name().items()}
    tokenizer = tokenization.learn(sentences["train"])
    fix_length(tokenizer, sentences["train"])
    encoded = splits.with_inputs(lambda name, _: encode_sentences(tokenizer, sentences[name]))
    warn_of_unknown_tokens(tokenizer, sentences["validation"], tokenization.remedy)
    # The token ids do not show upper case that was lowered, and unknown words.
    content = hashlib.sha256(json.dumps(sentences).encode()).hexdigest()
    return replace(encoded, tokenizer=tokenizer.to_str(), test_sentences=tuple(sentences["test"]), content=content)


def valid_samples(rows: Mapping[str, Rows]) -> dict[str, Samples]:
    return {split: [row for row in some if isinstance(row, TextSample)] for split, some in rows.items()}


def mark_single_labels(train: Samples, separator: str | None) -> Rows:
    """Return bad rows in place of samples whose label occurs once, because one sample says nothing about others."""
    counts = Counter(label for row in train for label in split_labels(row.label, separator))
    return _mark(train, separator, lambda label: counts[label] == 1, "is the only one with the label {!r}")


def mark_unseen_labels(samples: Samples, names: tuple[str, ...], separator: str | None) -> Rows:
    """Return bad rows in place of samples with a label that no training sample has."""
    known = set(names)
    reason = "has the label {!r}, which no training sample has"
    return _mark(samples, separator, lambda label: label not in known, reason)


def _mark(samples: Samples, separator: str | None, is_bad: Callable[[str], bool], reason: str) -> Rows:
    def checked(row: TextSample) -> TextSample | BadRow:
        bad = next((label for label in split_labels(row.label, separator) if is_bad(label)), None)
        return row if bad is None else BadRow(row.file, row.line, reason.format(bad))

    return [checked(row) for row in samples]


def check_label_counts(train: Samples, separator: str | None) -> None:
    """Raise DataError for a label with a single sample."""
    labels = [(label, row) for row in train for label in split_labels(row.label, separator)]
    counts = Counter(label for label, _ in labels)
    for label, row in labels:
        if counts[label] < 2:
            raise DataError(
                f"{row.file}, row {row.line} is the only one with the label {label!r}. Add samples or remove it."
            )


def label_names(train: Samples, separator: str | None) -> tuple[str, ...]:
    """Return all training labels, sorted, as numbers if all are whole numbers. Raises DataError if there is one."""
    labels = {label for row in train for label in split_labels(row.label, separator)}
    if len(labels) < 2:
        raise DataError(f"{train[0].file}: every training sample is {train[0].label!r}; expected two labels or more.")
    return tuple(sorted(labels, key=int if all(map(str.isdecimal, labels)) else None))
