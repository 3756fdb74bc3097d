"""Values that only the user can know are asked for, all at once, in the words of the files that want them."""

from pathlib import Path

import pytest

from pipeline.config.checks.missing_and_unread_keys import check_required_values, comment_beside
from pipeline.config.compose import compose
from pipeline.errors import ConfigError


def refusal(*overrides: str) -> str:
    composed = compose(overrides)
    with pytest.raises(ConfigError) as caught:
        check_required_values(composed.config, composed.choices, composed.folders)
    return str(caught.value)


def option(path: str, content: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)


def test_all_that_is_missing_is_named_with_what_its_file_says_of_it() -> None:
    first, root, target = refusal("data=table").splitlines()
    assert first == "data.root and data.source.target have no default and must be given"
    assert root.startswith("  data.root=VALUE           a file, such as data.root=houses.csv")
    assert target == "  data.source.target=VALUE  the column to predict, such as data.source.target=price"


def test_what_is_given_is_no_longer_asked_for() -> None:
    assert refusal("data=table", "data.root=houses.csv").startswith("data.source.target has no default")
    composed = compose(["data=table", "data.root=houses.csv", "data.source.target=price"])
    check_required_values(composed.config, composed.choices, composed.folders)


def test_a_recipe_asks_as_its_data_does() -> None:
    assert "data.root=VALUE  folder with train.tsv, dev.tsv and test.tsv" in refusal("experiment=sst2")


@pytest.mark.usefixtures("empty_folder")
class TestOptionsOfTheUsersOwn:
    def test_they_ask_in_their_own_words(self) -> None:
        option("conf/data/birds.yaml", "defaults: [audio_folder]\nroot: ???  # where the birds sing\n")
        assert refusal("data=birds").endswith("\n  data.root=VALUE  where the birds sing")

    def test_or_in_those_of_the_file_that_they_include(self) -> None:
        option("conf/data/birds.yaml", "defaults: [audio_folder]\n")
        assert "folder with one folder a class in it (WAV, FLAC, OGG)" in refusal("data=birds")

    def test_those_without_a_comment_say_at_least_what_to_type(self) -> None:
        option("conf/model/theirs.yaml", "_target_: pipeline.models.mlp.MLP\nwidths: ???\n")
        expected = "model.widths has no default and must be given\n  model.widths=VALUE"
        assert refusal("model=theirs", "+model.dropout=0") == expected

    def test_in_a_list_of_options_and_in_a_recipe(self) -> None:
        option("conf/callbacks/theirs.yaml", "theirs:\n  every: ???  # steps\n")
        option("conf/experiment/theirs.yaml", "# @package _global_\nname: ???\n")
        said = refusal("callbacks=[default,theirs]", "experiment=theirs")
        assert "  callbacks.theirs.every=VALUE  steps" in said

    def test_what_refers_to_a_missing_value_leads_to_it(self) -> None:
        option("conf/data/birds.yaml", "defaults: [audio_folder]\nsource: {labels: '${data.root}.csv'}\n")
        with pytest.raises(ConfigError, match=r"data\.source\.labels refers to .* must be given: data\.root=VALUE"):
            compose(["data=birds"])


def test_a_comment_beside_another_value_is_no_answer(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("root: null  # a folder\nsource:\n  target: ???  # a column # of them\n")
    assert comment_beside("root", tmp_path / "data.yaml") == ""
    assert comment_beside("source.nothing", tmp_path / "data.yaml") == ""
    assert comment_beside("source.target.deeper", tmp_path / "data.yaml") == ""
    assert comment_beside("source.target", tmp_path / "data.yaml") == "a column # of them"
