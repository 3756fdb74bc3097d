# ruff: noqa: RUF001 (other alphabets are what it is about)
"""Sentences from files: read, cut, numbered, and refused with file and row where they are wrong."""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from pipeline.data.data_spec import build_data_spec
from pipeline.data.datamodule import DataModule, check_splits
from pipeline.data.dataset import Splits
from pipeline.data.text.text_table import TextTable
from pipeline.data.text.tokenizer import Tokenization, encode_sentences, fix_length, smallest_dtype
from pipeline.errors import ConfigError, DataError

ROWS = [(f"a {'good' if number % 2 else 'bad'} film number {number}", str(number % 2)) for number in range(40)]
WORDS: dict[str, Any] = {
    "kind": "words",
    "vocabulary_size": 100,
    "least_count": 1,
    "lowercase": True,
    "max_length": 16,
}


def source(**changes: Any) -> TextTable:
    settings: dict[str, Any] = {
        "name": "reviews", "train": "train.csv", "validation": None, "test": None, "text": "text", "label": "label",
        "label_separator": None, "header": True, "validation_share": 0.2, "test_share": 0.2, "split_seed": 0,
        "on_bad_sample": "fail", "tokenizer": Tokenization(**WORDS),
    }  # fmt: skip
    return TextTable(**(settings | changes))


def write(folder: Path, name: str = "train.csv", *added: str, rows: list[tuple[str, str]] = ROWS) -> None:
    (folder / name).write_text("\n".join(["text,label", *(",".join(row) for row in rows), *added]) + "\n")


def words(parts: Splits, part: str) -> list[str]:
    tokenizer = Tokenizer.from_str(parts.tokenizer)
    return [tokenizer.decode(row.tolist()) for row in parts.by_name()[part].inputs]


def test_one_file_is_cut_into_three_parts_alike_each_time(tmp_path: Path) -> None:
    write(tmp_path)
    parts = source().load(tmp_path).fitted()
    assert [len(part) for part in parts.by_name().values()] == [24, 8, 8]
    assert parts.test.targets.sum() == 4 and parts.class_names == ("0", "1") and parts.task == "binary"
    found = [sentence for part in parts.by_name() for sentence in words(parts, part)]
    assert len(set(found)) > 24
    again = source().load(tmp_path).fitted()
    assert build_data_spec(again) == build_data_spec(parts) and again.tokenizer == parts.tokenizer
    assert build_data_spec(source(split_seed=1).load(tmp_path).fitted()).digest != build_data_spec(parts).digest


def test_the_same_rows_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "train.tsv").write_text("\n".join("\t".join(row) for row in ROWS))
    (tmp_path / "train.jsonl").write_text("\n".join(f'{{"text": "{text}", "label": {label}}}' for text, label in ROWS))
    digests = {
        build_data_spec(source(**asked).load(tmp_path).fitted()).digest
        for asked in (
            {},
            {"train": "train.tsv", "text": 0, "label": 1, "header": False},
            {"train": "train.jsonl"},
        )
    }
    assert len(digests) == 1


def test_the_digest_changes_with_a_letter_that_the_network_never_sees(tmp_path: Path) -> None:
    write(tmp_path)
    before = build_data_spec(source().load(tmp_path).fitted())
    write(tmp_path, rows=[(ROWS[0][0].capitalize(), ROWS[0][1]), *ROWS[1:]])
    after = build_data_spec(source().load(tmp_path).fitted())
    assert after.digest != before.digest and replace(after, digest=before.digest) == before


def test_only_the_training_part_gives_words_numbers(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, "test.csv", rows=[("a marvellous film", "1"), ("a bad film", "0")])
    parts = source(test="test.csv").load(tmp_path).fitted()
    assert parts.test.inputs[0].tolist()[1] == 1, "marvellous is unknown"
    assert words(parts, "test")[1] == "a bad film" and parts.test_sentences == ("a marvellous film", "a bad film")
    assert len(parts.train) == 32 and len(parts.validation) == 8


def test_inputs_are_small_numbers_that_end_in_padding(tmp_path: Path) -> None:
    write(tmp_path)
    inputs = source(tokenizer=Tokenization(**(WORDS | {"max_length": 4}))).load(tmp_path).fitted().train.inputs
    assert inputs.dtype == torch.uint8 and inputs.shape == (24, 4)
    assert [smallest_dtype(size) for size in (256, 257, 32_768, 32_769)] == [
        torch.uint8,
        torch.int16,
        torch.int16,
        torch.int32,
    ]


def test_pieces_of_words_spell_words_that_were_never_seen() -> None:
    pieces = Tokenization(**(WORDS | {"kind": "bpe"})).learn([text for text, _ in ROWS])
    fix_length(pieces, ["fogd"])
    assert 1 not in encode_sentences(pieces, ["fogd"]).tolist()[0]
    again = Tokenization(**(WORDS | {"kind": "bpe"})).learn([text for text, _ in ROWS])
    assert pieces.get_vocab() == again.get_vocab()


def test_words_are_learned_after_the_cut(tmp_path: Path) -> None:
    write(tmp_path)
    for options in ({"train_fraction": 0.2}, {"folds": 4, "fold": 1}):
        data = DataModule(
            source=source(), root=str(tmp_path), batch_size=4, evaluation_batch_size=4, seed=0,
            **{"train_fraction": 1.0, **options},
        )  # fmt: skip
        data.load()
        numbers = data.splits.train.inputs.long()
        assert set(numbers.flatten().tolist()) - {0} == set(range(2, data.spec.vocabulary_size))


def test_the_tokenizer_that_is_kept_encodes_as_the_network_was_trained(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, "test.csv", rows=[("a film", "1"), ("a bad film number 1 and much that no other has", "0")])
    parts = source(test="test.csv").load(tmp_path).fitted()
    kept = Tokenizer.from_str(parts.tokenizer)
    assert [encoding.ids for encoding in kept.encode_batch(list(parts.test_sentences))] == parts.test.inputs.tolist()
    assert parts.test.inputs.shape == (2, 5) and parts.test.inputs[0, 2:].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "line, said",
    [
        (b" ,1", "row 42 has an empty text"),
        (b"a film,", "row 42 has no label"),
        (b"a film", "row 42 has 1 columns, expected 2"),
        (b"a film,1,2", "row 42 has 3 columns, expected 2"),
        (b"a caf\xe9,1", "row 42 is not UTF-8; iconv -f latin1 -t utf-8 OLD > NEW converts a file"),
    ],
)
def test_a_bad_row_is_named_or_left_out(
    line: bytes, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path)
    with (tmp_path / "train.csv").open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(DataError, match=rf"(?s)1 of 41 rows.*train\.csv, {said}.*on_bad_sample=skip"):
        source().load(tmp_path).fitted()
    with caplog.at_level(logging.WARNING):
        parts = source(on_bad_sample="skip").load(tmp_path).fitted()
    assert len(parts.train) == 24 and "left out 1 of 41 rows" in caplog.text
    assert parts.skipped == (f"{tmp_path}/train.csv, {said}",) and parts.skipped[0] in caplog.text


@pytest.mark.parametrize(
    "line, said",
    [
        ('{"text": ["a", "film"], "label": 1}', "row 42 has the text ['a', 'film'], expected one in quotation marks"),
        ('{"text": "a film", "label": ["1"]}', "row 42 has the label ['1'], expected one"),
        ('{"text": "a film"}', "row 42 has no label"),
        ('{"text": null, "label": 1}', "row 42 has an empty text"),
        ('{"words": "a film", "label": 1}', "row 42 is not an object with 'text' (data.source.text)"),
        ("{oops", "row 42 is not JSON"),
    ],
)
def test_what_is_no_text_or_label_in_json_is_named(line: str, said: str, tmp_path: Path) -> None:
    good = [json.dumps({"text": text, "label": int(label)}) for text, label in ROWS]
    (tmp_path / "train.jsonl").write_text("\n".join([*good, "", line]))
    with pytest.raises(DataError, match=rf"1 of 41 rows cannot be used:\n.*{re.escape(said)}"):
        source(train="train.jsonl").load(tmp_path)


def test_a_label_with_one_sample_alone_is_named(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "a film like no other,2")
    with pytest.raises(DataError, match=r"train\.csv, row 42 is the only one with the label '2'\. Add samples"):
        source().load(tmp_path)
    parts = source(on_bad_sample="skip").load(tmp_path)
    assert parts.skipped == (f"{tmp_path}/train.csv, row 42 is the only one with the label '2'",)
    assert parts.class_names == ("0", "1")


@pytest.mark.parametrize("name", ["train.csv", "train.tsv", "train.jsonl"])
def test_a_sentence_may_be_as_long_as_a_book(name: str, tmp_path: Path) -> None:
    book = "a word " * 60_000
    rows = [("text", "label"), *ROWS, (book, "1")]
    told = [json.dumps({"text": text, "label": label}) for text, label in rows[1:]]
    lines = told if name.endswith("jsonl") else [("," if name.endswith("csv") else "\t").join(row) for row in rows]
    (tmp_path / name).write_text("\n".join(lines))
    assert sum(len(part) for part in source(train=name).load(tmp_path).by_name().values()) == 41


def test_a_quotation_mark_that_is_left_open_takes_no_end_of_characters(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", '"a film' + "\nx" * 9_000_000)
    with pytest.raises(
        DataError, match=r"row \d+: a cell has more than 16,777,216 characters; is a quotation mark left"
    ):
        source().load(tmp_path)


def test_semicolons_part_columns_where_the_first_row_has_them(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("\n".join(["text;label", *(f"{text}, yes;{label}" for text, label in ROWS)]))
    parts = source().load(tmp_path)
    assert parts.class_names == ("0", "1") and sum(len(part) for part in parts.by_name().values()) == 40


def test_a_file_in_the_place_of_its_folder_is_told_from_it(tmp_path: Path) -> None:
    write(tmp_path, "own.csv")
    with pytest.raises(ConfigError, match=rf"data\.root={tmp_path} data\.source\.train=own\.csv"):
        source().load(tmp_path / "own.csv")


def test_a_label_that_training_never_shows_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, "test.csv", rows=[("a film", "7"), ("a bad film", "0")])
    said = "test.csv, row 2 has the label '7', which no training sample has"
    with pytest.raises(DataError, match=re.escape(said)):
        source(test="test.csv").load(tmp_path).fitted()
    parts = source(test="test.csv", on_bad_sample="skip").load(tmp_path).fitted()
    assert parts.skipped == (f"{tmp_path}/{said}",) and len(parts.test) == 1


def test_a_cell_may_name_any_number_of_labels(tmp_path: Path) -> None:
    rows = [(f"film number {number}", ("funny", "funny; sad", "", "long;")[number % 4]) for number in range(40)]
    write(tmp_path, rows=rows)
    parts = source(label_separator=";").load(tmp_path).fitted()
    assert parts.task == "multilabel" and parts.class_names == ("funny", "long", "sad")
    assert parts.train.targets.dtype == torch.float32 and parts.train.targets.shape == (24, 3)
    wanted = ([1, 0, 0], [1, 0, 1], [0, 0, 0], [0, 1, 0])
    for sentence, labels in zip(words(parts, "train"), parts.train.targets.tolist(), strict=True):
        assert labels == wanted[int(sentence.split()[-1]) % 4]
    check_splits(parts)
    write(tmp_path, "test.csv", rows=[("a film", "funny;odd")])
    with pytest.raises(DataError, match="row 2 has the label 'odd', which no training sample has"):
        source(label_separator=";", test="test.csv").load(tmp_path).fitted()


def test_copies_across_parts_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path)
    write(tmp_path, "test.csv", rows=ROWS)
    source(test="test.csv").load(tmp_path).fitted()
    assert "32 of the 40 test sentences are in the train split, too" in caplog.text


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"text": "review"}, "data.source.text=review: .* has the columns text, label"),
        ({"label": 2}, "data.source.label=2: .* has 2 columns: expected 0 to 1"),
        ({"validation_share": 0.001}, "validation_share=0.001 .* leave a split empty"),
    ],
)
def test_what_is_asked_for_and_is_not_there_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ConfigError, match=said):
        source(**changes).load(tmp_path).fitted()


def test_files_that_are_missing_or_of_no_known_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.xml").write_text("")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "one.csv").write_text("text,label\na,1\nb,1\nc,1\nd,1\ne,1\n")
    (tmp_path / "open.csv").write_text('text,label\n"a,1\n' + "x" * 140_000)
    (tmp_path / "head.csv").write_bytes("text,größe\na,1\n".encode("latin1"))
    (tmp_path / "wide.csv").write_bytes("text,label\na,1\n".encode("utf-16"))
    (tmp_path / "left.csv").write_text('text,label\na,1\n"b,0\nc,1\n')
    for file, said in (
        ("train.csv", r"train\.csv does not exist\. Say where.*data\.root"),
        ("train.xml", r"an unknown kind; expected \.csv"),
        ("empty.csv", "has no sample"),
        ("one.csv", "every training sample is '1'"),
        ("open.csv", "quotation mark"),
        ("head.csv", r"head\.csv: the first line is not UTF-8; iconv"),
        ("wide.csv", r"wide\.csv is in UTF-16.*iconv -f utf-16"),
        ("left.csv", r"left\.csv, row 4: .*quotation mark left open"),
    ):
        with pytest.raises(DataError, match=said):
            source(train=file).load(tmp_path).fitted()
    with pytest.raises(DataError, match=r"data\.root=FOLDER"):
        source().load(None)


# What is the same word however it is written, and what is cut apart.
CUT = {
    "Chinese": ("这部电影非常好看。", "这 部 电 影 非 常 好 看 。"),
    "Chinese with a name in it": ("我爱iPhone15了", "我 爱 iphone15 了"),
    "Japanese": ("とてもいいコーヒー", "と て も い い コ ー ヒ ー"),
    "half-width Japanese": ("ﾅｶﾞｲ", "ナ ガ イ"),
    "Thai": ("สวยมาก", "ส ว ย ม า ก"),
    "Lao": ("ພາສາ", "ພ າ ສ າ"),
    "Khmer, marks stay on": ("ភាសា", "ភា សា"),
    "Burmese, marks stay on": ("မြန်မာ", "မြ န် မာ"),
    "Korean has spaces": ("한국어 문장", "한국어 문장"),
    "an accent apart from its letter": ("cafe\u0301", "café"),
    "a Turkish capital": ("İSTANBUL istanbul", "istanbul istanbul"),
    "wide letters and digits": ("１２３ Ｆｕｌｌ", "123 full"),
    "emoji one by one": ("great🎉🎉👍🏽!!!", "great 🎉 🎉 👍🏽 !!!"),
    "flags, families, a heart with a selector": ("🇩🇪🇫🇷 👨\u200d👩 ❤\ufe0f", "🇩🇪 🇫🇷 👨 👩 ❤"),
    "marks of direction": ("שלום\u200f עולם", "שלום עולם"),
    "what has no width": ("he\u200bllo \u00adfoo \ufeffbar\x00", "hello foo bar"),
    "Persian joiners": ("می\u200cخواهم", "میخواهم"),
}


@pytest.mark.parametrize("kind", ["words", "bpe"])
@pytest.mark.parametrize("case", CUT)
def test_words_are_found_in_every_script(case: str, kind: str) -> None:
    text, expected = CUT[case]
    learned = Tokenization(**(WORDS | {"kind": kind, "vocabulary_size": 1000})).learn([text] * 3)
    tokens = learned.encode(text).tokens
    found = tokens if kind == "words" else pieces_joined(tokens, expected)
    assert found == expected.split()
    again = Tokenizer.from_str(learned.to_str())
    assert again.encode(text).tokens == tokens, "what is kept cuts alike"


def pieces_joined(tokens: list[str], expected: str) -> list[str]:
    """No piece may reach over the end of a word; a word may be several."""
    words, rest = [], list(tokens)
    for word in expected.split():
        taken = ""
        while len(taken) < len(word):
            taken += rest.pop(0)
        words.append(taken)
    assert not rest
    return words


def test_nothing_but_marks_without_a_width_is_an_empty_text(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "\u200b\ufeff ,1")
    with pytest.raises(DataError, match="row 42 has an empty text"):
        source().load(tmp_path)


@pytest.mark.parametrize(
    "changed, remedy",
    [
        ({}, r"data\.source\.tokenizer\.kind=bpe"),
        ({"least_count": 2}, r"data\.source\.tokenizer\.least_count=1"),
        ({"kind": "bpe"}, r"data\.source\.tokenizer\.vocabulary_size=200"),
    ],
)
def test_validation_in_words_that_training_never_shows_is_warned_of(
    changed: dict[str, Any], remedy: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path)
    write(tmp_path, "dev.csv", rows=[("a ΩΨ ΞΦ number 1", "1"), ("a bad film", "0")])
    source(validation="dev.csv", tokenizer=Tokenization(**(WORDS | changed))).load(tmp_path).fitted()
    unknown = r"\d+ of the \d+ validation tokens \(\d\d%\) are not in the vocabulary, such as 'Ω.*"
    assert re.search(unknown + remedy, caplog.text)


def test_validation_in_words_that_training_shows_is_not_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path)
    write(tmp_path, "dev.csv", rows=[("a very bad film number 1", "1"), ("a bad film", "0")])
    source(validation="dev.csv").load(tmp_path).fitted()
    assert "vocabulary" not in caplog.text


def test_a_tokenizer_that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {')
    with pytest.raises(DataError, match=r"tokenizer\.json is not a tokenizer that can be read: .*Put a complete copy"):
        Tokenization(**(WORDS | {"kind": str(tmp_path / "tokenizer.json")})).learn([])
