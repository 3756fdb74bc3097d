"""Sentences and their classes in files of the user's own: CSV, TSV or JSON lines."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch

from pipeline.constraints import ProperFraction, Seed
from pipeline.data.bad_samples import skip_or_fail
from pipeline.data.dataset import Split, Splits
from pipeline.data.duplicates import warn_of_duplicates
from pipeline.data.splitting import split_rows
from pipeline.data.targets import classification_task, encode_labels, split_labels
from pipeline.data.text.text_rows import BadRow, TextSample, read_text_rows
from pipeline.data.text.tokenizer import Tokenization, encode_sentences, fix_length, warn_of_unknown_tokens
from pipeline.errors import ConfigError, DataError
from pipeline.spec import Kind

Samples = list[TextSample]
ORDER = ("train", "validation", "test")


class TextTable:
    """Files below data.root, of which `validation` and `test` may be None: then they are cut from `train`, as shares.

    text, label    columns by name, or by number from 0; of JSON lines by name alone
    label_separator
                   what stands between labels, of which a sample then has any number; None: a label is the whole cell
    on_bad_sample  fail: a row that cannot be used ends the run; skip: it is left out and listed
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
            raise DataError(f"{self.name} comes from files of yours: say in which folder, data.root=FOLDER")
        if root.is_file():
            raise ConfigError(
                f"data.root={root} is a file, expected the folder in which it is: data.root={root.parent} "
                f"data.source.train={root.name}"
            )
        found = {part: self._read(root / file) for part, file in self.files.items() if file is not None}
        skipped, samples = self._skipped(found), valid_samples(found)
        if not samples["train"]:
            raise DataError(f"{root / str(self.files['train'])} has no sample: nothing can be learned from it.")
        if self.on_bad_sample == "skip":
            found = {"train": mark_single_labels(samples["train"], self.separator)}
            skipped, samples = skipped + self._skipped(found), samples | valid_samples(found)
        check_label_counts(samples["train"], self.separator)
        wanted = {part: share for part, share in self.shares.items() if self.files[part] is None}
        samples |= self._cut(samples["train"], wanted)
        names = label_names(samples["train"], self.separator)
        found = {part: mark_unseen_labels(rows, names, self.separator) for part, rows in samples.items()}
        skipped, samples = skipped + self._skipped(found), valid_samples(found)
        warn_of_duplicates({part: [row.text for row in samples[part]] for part in ORDER}, "sentences")
        return replace(self._parts(samples, names), skipped=skipped)

    def _cut(self, train: Samples, shares: Mapping[str, float]) -> dict[str, Samples]:
        if not shares:
            return {}
        labels = np.unique([row.label for row in train], return_inverse=True)[1]
        rows = split_rows(labels, shares, seed=self.split_seed)
        return {part: [train[row] for row in some] for part, some in rows.items()}

    def _read(self, path: Path) -> list[TextSample | BadRow]:
        may_be_unlabelled = self.separator is not None
        return read_text_rows(
            path, text=self.text, label=self.label, header=self.header, may_be_unlabelled=may_be_unlabelled
        )

    def _skipped(self, found: Mapping[str, Sequence[TextSample | BadRow]]) -> tuple[str, ...]:
        rows = [row for part in found.values() for row in part]
        wrong = [str(row) for row in rows if isinstance(row, BadRow)]
        return skip_or_fail(wrong, on_bad_sample=self.on_bad_sample, of=len(rows), what="rows")

    def _parts(self, samples: Mapping[str, Samples], names: tuple[str, ...]) -> Splits:
        texts = [row.text for part in ORDER for row in samples[part]]
        places = torch.split(torch.arange(len(texts)), [len(samples[part]) for part in ORDER])
        labels = (encode_labels([row.label for row in samples[part]], names, self.separator) for part in ORDER)
        train, validation, test = map(Split, places, labels)
        fit = partial(tokenize_splits, texts=texts, tokenization=self.tokenizer)
        return Splits(
            self.name, "text", classification_task(names, self.separator), names, train, validation, test, fit=fit
        )


def tokenize_splits(parts: Splits, *, texts: Sequence[str], tokenization: Tokenization) -> Splits:
    """Return the splits with token ids, where `parts` have indices into `texts`; training gives the vocabulary."""
    sentences = {name: [texts[place] for place in part.inputs[:].tolist()] for name, part in parts.by_name().items()}
    tokenizer = tokenization.learn(sentences["train"])
    fix_length(tokenizer, sentences["train"])
    train, validation, test = (
        replace(part, inputs=encode_sentences(tokenizer, sentences[name])) for name, part in parts.by_name().items()
    )
    warn_of_unknown_tokens(tokenizer, sentences["validation"], tokenization.remedy)
    # Letters that are made small and words that get no number are the data's, too.
    content = hashlib.sha256(json.dumps(sentences).encode()).hexdigest()
    return replace(
        parts, train=train, validation=validation, test=test, tokenizer=tokenizer.to_str(),
        test_sentences=tuple(sentences["test"]), content=content, fit=None,
    )  # fmt: skip


def valid_samples(found: Mapping[str, Sequence[TextSample | BadRow]]) -> dict[str, Samples]:
    return {part: [row for row in rows if isinstance(row, TextSample)] for part, rows in found.items()}


def mark_single_labels(train: Samples, separator: str | None) -> list[TextSample | BadRow]:
    """Mark samples whose label occurs once as wrong: a single one says nothing of others."""
    counts = Counter(label for row in train for label in split_labels(row.label, separator))

    def checked(row: TextSample) -> TextSample | BadRow:
        single = [label for label in split_labels(row.label, separator) if counts[label] == 1]
        return BadRow(row.file, row.line, f"is the only one with the label {single[0]!r}") if single else row

    return [checked(row) for row in train]


def check_label_counts(train: Samples, separator: str | None) -> None:
    """Raises DataError for a label of which there is nothing but one sample."""
    labels = [(label, row) for row in train for label in split_labels(row.label, separator)]
    counts = Counter(label for label, _ in labels)
    for label, row in labels:
        if counts[label] < 2:
            raise DataError(
                f"{row.file}, row {row.line} is the only one with the label {label!r}. Add samples or remove it."
            )


def label_names(train: Samples, separator: str | None) -> tuple[str, ...]:
    """Return all labels of the training split, sorted: 2 before 10 where all are numbers. Raises DataError for one."""
    found = {label for row in train for label in split_labels(row.label, separator)}
    if len(found) < 2:
        raise DataError(f"{train[0].file}: every training sample is {train[0].label!r}; expected two labels or more.")
    is_whole: Callable[[str], bool] = str.isdecimal
    return tuple(sorted(found, key=int if all(is_whole(label) for label in found) else None))


def mark_unseen_labels(rows: Samples, names: tuple[str, ...], separator: str | None) -> list[TextSample | BadRow]:
    classes = set(names)

    def checked(row: TextSample) -> TextSample | BadRow:
        strange = [label for label in split_labels(row.label, separator) if label not in classes]
        if not strange:
            return row
        return BadRow(row.file, row.line, f"has the label {strange[0]!r}, which no training sample has")

    return [checked(row) for row in rows]
