"""Models of packages that are not installed by default: what is told without them, and what they do with them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import ConfigError, DataError
from pipeline.models.hugging_face import HuggingFace, build_from_settings
from pipeline.models.timm import Timm
from pipeline.spec import DataSpec

WORDS: dict[str, Any] = {"vocabulary_size": 100, "least_count": 1, "lowercase": True, "max_length": 3}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def images(**changes: Any) -> DataSpec:
    facts = {"kind": "image", "input_shape": (1, 28, 28), "mean": (33.0,), "std": (78.0,)}
    return described(**(facts | changes))


def sentences(**changes: Any) -> DataSpec:
    return described(**({"kind": "text", "input_shape": (9,), "mean": (), "std": (), "vocabulary_size": 50} | changes))


def described(**facts: Any) -> DataSpec:
    return DataSpec(**({"name": "tiny", "task": "multiclass", "class_names": ("a", "b", "c")} | facts))


def timm(spec: DataSpec, **changes: Any) -> Timm:
    settings = {"name": "mobilenetv3_small_050", "pretrained": False, "dropout": 0.0, "settings": {}}
    return Timm(spec=spec, **(settings | changes))


def hugging_face(spec: DataSpec, **changes: Any) -> HuggingFace:
    return HuggingFace(spec=spec, **({"architecture": "bert", "settings": SMALL, "pretrained": None} | changes))


@pytest.mark.parametrize("name", ["checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"])
def test_settings_of_timm_name_no_weights(name: str) -> None:
    with pytest.raises(ConfigError, match=f"model.settings.{name} says where weights come from"):
        timm(images(), settings={name: "evil.pth"})


def test_settings_of_transformers_name_no_code() -> None:
    with pytest.raises(ConfigError, match="would fetch code from a hub"):
        build_from_settings(None, sentences(), "bert", {"attn_implementation": "evil/attention"})


@pytest.mark.parametrize(
    "build, package", [(lambda: timm(images()), "timm"), (lambda: hugging_face(sentences()), "transformers")]
)
def test_a_missing_package_is_told_with_what_to_type(build: Any, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(ConfigError, match=rf"needs the package {package}, .*: python -m pip install {package}$"):
        build()


class TestTimm:
    def test_what_is_no_image_is_sent_elsewhere(self) -> None:
        with pytest.raises(ConfigError, match=r"model=timm needs images .*: use model=mlp"):
            timm(described(kind="table", input_shape=(4,), mean=(0.0,) * 4, std=(1.0,) * 4))

    @pytest.mark.parametrize("name", ["weights.bin", "weights.pth", "missing.safetensors"])
    def test_weights_in_a_format_that_could_hold_code_are_refused(self, name: str, empty_folder: Path) -> None:
        Path("weights.bin").touch()
        Path("weights.pth").touch()
        with pytest.raises(ConfigError, match=rf"model.pretrained={name}: expected .* ends in .safetensors"):
            timm(images(), pretrained=name)

    def test_a_name_that_it_does_not_have_is_refused_with_some_that_it_has(self) -> None:
        pytest.importorskip("timm")
        with pytest.raises(ConfigError, match=r"model.name=resnet_18 is not one of timm's models: use such as resnet"):
            timm(images(), name="resnet_18")

    def test_weights_from_a_file_are_taken_for_other_channels_and_classes(self, tmp_path: Path) -> None:
        pytest.importorskip("timm")
        from safetensors.torch import save_file

        theirs = timm(images(input_shape=(3, 28, 28), class_names=tuple(map(str, range(1000)))))
        save_file(theirs.model.state_dict(), tmp_path / "theirs.safetensors")
        ours = timm(images(), pretrained=str(tmp_path / "theirs.safetensors"))
        last = "blocks.0.0.conv_pw.weight"
        torch.testing.assert_close(ours.model.state_dict()[last], theirs.model.state_dict()[last])
        assert ours(torch.zeros(2, 1, 28, 28)).shape == (2, 3)


class TestHuggingFace:
    def test_what_is_no_text_is_sent_elsewhere(self) -> None:
        with pytest.raises(ConfigError, match=r"model=hugging_face takes text; tiny has image data: use model=mlp"):
            hugging_face(images())

    def test_a_folder_without_safe_weights_is_refused_with_what_it_has(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / "pytorch_model.bin").touch()
        with pytest.raises(ConfigError, match=r"model.safetensors; found config.json, pytorch_model.bin"):
            hugging_face(sentences(), pretrained=str(tmp_path))
        with pytest.raises(ConfigError, match=r"found no such folder"):
            hugging_face(sentences(), pretrained=str(tmp_path / "nowhere"))

    @pytest.mark.parametrize("name", ["bertt", "vit"])
    def test_an_architecture_that_does_not_classify_sentences_is_refused(self, name: str) -> None:
        pytest.importorskip("transformers")
        with pytest.raises(ConfigError, match=rf"model.architecture={name}: .*such as bert, distilbert or electra"):
            hugging_face(sentences(), architecture=name, settings={})

    def test_a_sentence_longer_than_it_takes_is_refused(self) -> None:
        pytest.importorskip("transformers")
        with pytest.raises(ConfigError, match=r"use data.source.tokenizer.max_length=5"):
            hugging_face(sentences(), settings=SMALL | {"max_position_embeddings": 5})

    def test_a_sentence_without_a_word_and_padding_behind_one_change_nothing(self) -> None:
        pytest.importorskip("transformers")
        body = hugging_face(sentences()).eval()
        words = torch.tensor([[4, 5, 6, 0, 0, 0, 0, 0, 0], [0] * 9])
        scores = body(words)
        assert torch.isfinite(scores).all()
        torch.testing.assert_close(body(words[:1, :3]), scores[:1], rtol=1e-4, atol=1e-5)

    def test_weights_of_a_folder_are_taken_with_a_new_head(self, tmp_path: Path) -> None:
        pytest.importorskip("transformers")
        theirs = hugging_face(sentences())
        theirs.model.save_pretrained(tmp_path)
        ours = hugging_face(sentences(class_names=("a", "b", "c", "d")), pretrained=str(tmp_path))
        name = "bert.encoder.layer.1.output.dense.weight"
        torch.testing.assert_close(ours.model.state_dict()[name], theirs.model.state_dict()[name])
        assert ours(torch.ones(2, 9)).shape == (2, 4)
        with pytest.raises(ConfigError, match=r"knows 50 tokens, tiny has 51 of its own: .*tokenizer.kind="):
            hugging_face(sentences(vocabulary_size=51), pretrained=str(tmp_path))


class TestTokenizerOfAPretrainedModel:
    def test_numbers_words_as_the_model_does(self, tmp_path: Path) -> None:
        pytest.importorskip("tokenizers")
        from pipeline.data.text.tokenizer import Tokenization, encode_sentences

        learned = Tokenization(kind="words", **WORDS).learn(["a lovely film", "a dull film"])
        learned.save(str(tmp_path / "tokenizer.json"))
        taken = Tokenization(kind=str(tmp_path / "tokenizer.json"), **WORDS).learn(["something else"])
        said = ["a dull lovely film"]
        assert torch.equal(encode_sentences(taken, said), encode_sentences(learned, said))
        assert json.loads(taken.to_str())["model"] == json.loads(learned.to_str())["model"]

    def test_one_whose_first_number_is_no_padding_is_refused(self, tmp_path: Path) -> None:
        tokenizers = pytest.importorskip("tokenizers")
        from pipeline.data.text.tokenizer import Tokenization

        path = tmp_path / "tokenizer.json"
        tokenizers.Tokenizer(tokenizers.models.WordLevel({"<s>": 0, "<pad>": 1}, unk_token="<s>")).save(str(path))
        with pytest.raises(DataError, match=r"token 0 is <s>, expected the padding token"):
            Tokenization(kind=str(path), **WORDS).learn([])
        with pytest.raises(DataError, match=r"kind=nowhere.json does not exist"):
            Tokenization(kind="nowhere.json", **WORDS).learn([])

    def test_another_kind_is_refused(self) -> None:
        from pipeline.data.text.tokenizer import Tokenization

        with pytest.raises(ConfigError, match=r"kind=letters: expected words, bpe, or the path of a tokenizer.json"):
            Tokenization(kind="letters", **WORDS)
