from itertools import permutations
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from omegaconf import OmegaConf

from pipeline.config.compose import compose, load_frozen_config, set_value, to_yaml
from pipeline.errors import ConfigError
from pipeline.run_files import DamagedFileError


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_run_is_named_after_its_model_and_data_and_its_experiment_after_the_data() -> None:
    config = compose(["model=mlp", "data=fashion_mnist"]).config
    assert config.name == "mlp-fashion_mnist"
    assert config.tracking.experiment == "fashion_mnist"


def test_names_that_the_user_gave_stay() -> None:
    config = compose(["name=mine", "tracking.experiment=theirs"]).config
    assert (config.name, config.tracking.experiment) == ("mine", "theirs")


def test_without_tracking_there_is_no_experiment() -> None:
    assert compose(["tracking=none"]).config.tracking.experiment is None


def test_interpolations_are_resolved_and_also_kept() -> None:
    composed = compose(["runs_dir=elsewhere"])
    assert composed.config.tracking.uri == "sqlite:///elsewhere/mlflow.db"
    assert "${runs_dir}" in to_yaml(composed.unresolved)


def test_remedies_that_change_pictures_stay_in_force_beside_each_other() -> None:
    names = ("augmentation", "erasing", "rand_augment")

    def in_force(*remedies: str) -> dict[str, object]:
        transforms = compose([f"remedy=[{','.join(remedies)}]"]).config.callbacks.augmentation.transforms
        return {name: each for name, each in transforms.items() if each.get("p", 1.0) > 0}

    for one, other in permutations(names, 2):
        assert in_force(one, other) == in_force(one) | in_force(other), (one, other)


def test_an_average_of_weights_takes_the_place_of_the_other() -> None:
    assert "ema" in compose([]).config.callbacks
    for typed in (["remedy=swa"], ["remedy=swa", "~callbacks.ema"]):
        callbacks = compose(typed).config.callbacks
        assert "swa" in callbacks and "ema" not in callbacks and "early_stopping" in callbacks


def test_a_callback_that_is_set_to_null_is_left_out() -> None:
    assert "early_stopping" not in compose(["callbacks.early_stopping=null"]).config.callbacks


def test_choices_and_overrides_are_told_as_typed() -> None:
    composed = compose(["callbacks=[default,ema]", "trainer.max_epochs=3"])
    assert composed.choices["callbacks"] == ["default", "ema"]
    assert composed.choices["model"] == "cnn"
    assert composed.overrides == ["callbacks=[default,ema]", "trainer.max_epochs=3"]


def test_the_configuration_is_closed_to_new_keys() -> None:
    config = compose([]).config
    with pytest.raises(AttributeError):
        config.trainer.max_epoch = 3


def test_shipped_defaults_have_the_recipes_choices_but_nobodys_values(elsewhere: Path) -> None:
    recipe = """\
        # @package _global_
        defaults:
          - override /data: mnist
          - override /callbacks: [default, ema]
        trainer:
          precision: bf16-mixed
        """
    write(elsewhere / "conf/experiment/theirs.yaml", dedent(recipe))
    composed = compose(["experiment=theirs", "seed=7", "model.dropout=0.5"])
    assert composed.config.trainer.precision == "bf16-mixed"
    assert composed.shipped.trainer.precision == "32-true"
    assert composed.shipped.seed == 0
    assert composed.shipped.model.dropout != 0.5
    assert "ema" in composed.shipped.callbacks
    assert "validation_size" in composed.shipped.data.source


def test_the_frozen_text_reads_back_as_the_same_values(tmp_path: Path) -> None:
    config = compose(["optimizer.weight_decay=1e-5", "data.root='1e3'", "+note='yes: \"no\"'"]).config
    text = to_yaml(config)
    assert yaml.safe_load(text) == OmegaConf.to_container(config)
    (tmp_path / "config.yaml").write_text(text)
    assert load_frozen_config(tmp_path) == config


@pytest.mark.parametrize("content", ["a: [1", "- 1\n- 2\n", "", "7", "a: 1\n", "name: \0", "a: ${b", "? {}"])
def test_a_damaged_frozen_configuration_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(DamagedFileError, match=r"config\.yaml is damaged"):
        load_frozen_config(tmp_path)


def test_one_value_of_a_frozen_configuration_can_be_changed() -> None:
    config = compose([]).config
    set_value(config, "trainer.max_epochs", "20")
    assert config.trainer.max_epochs == 20
    with pytest.raises(ConfigError, match=r"did you mean  trainer\.max_epochs"):
        set_value(config, "trainer.max_epoch", "20")


def test_a_list_of_options_counts_as_chosen_wherever_it_was_written(elsewhere: Path) -> None:
    write(elsewhere / "conf/mine.yaml", "defaults: [train, {override callbacks: [default, ema]}, _self_]\n")
    assert compose([], config_name="mine").choices["callbacks"] == ["default", "ema"]
    assert compose(["callbacks=none"], config_name="mine").choices["callbacks"] == "none"
    recipe = "# @package _global_\ndefaults:\n  - override /callbacks: [default, augmentation]\n"
    write(elsewhere / "conf/experiment/theirs.yaml", recipe)
    assert compose(["experiment=theirs"]).choices["callbacks"] == ["default", "augmentation"]


class TestPlaces:
    def test_a_conf_in_the_working_directory_adds_options_and_wins(self, elsewhere: Path) -> None:
        write(elsewhere / "conf/model/theirs.yaml", "# Their own.\n_target_: their_package.Net\nwidth: 3\n")
        write(elsewhere / "conf/model/mlp.yaml", "_target_: their_package.Net\nwidth: 4\n")
        assert compose(["model=theirs"]).config.model.width == 3
        assert compose(["model=mlp"]).config.model.width == 4
        assert compose(["model=cnn"]).config.model.depth == 1

    def test_config_dir_comes_before_everything(self, elsewhere: Path) -> None:
        write(elsewhere / "conf/model/theirs.yaml", "width: 1\n")
        write(elsewhere / "it's more/model/theirs.yaml", "width: 2\n")
        assert compose(["model=theirs"], config_dirs=["it's more"]).config.model.width == 2

    def test_another_primary_configuration_builds_on_ours(self, elsewhere: Path) -> None:
        write(elsewhere / "conf/mine.yaml", "defaults: [train, _self_]\nseed: 5\n")
        assert compose([], config_name="mine").config.seed == 5

    def test_a_recipe_of_the_users_own_sets_values_and_chooses_options(self, elsewhere: Path) -> None:
        recipe = "# @package _global_\ndefaults:\n  - override /model: mlp\nseed: 3\n"
        write(elsewhere / "conf/experiment/mine.yaml", recipe)
        composed = compose(["experiment=mine"])
        assert (composed.config.seed, composed.choices["model"], composed.shipped.seed) == (3, "mlp", 0)

    def test_a_folder_that_is_not_there_is_refused(self, elsewhere: Path) -> None:
        with pytest.raises(ConfigError, match="nowhere is not a folder"):
            compose([], config_dirs=["nowhere"])

    def test_an_unknown_primary_is_answered_with_the_names_there_are(self) -> None:
        with pytest.raises(ConfigError, match="did you mean  --config-name train"):
            compose([], config_name="trian")

    def test_an_option_that_a_file_asks_for_but_nobody_has_is_told_with_the_file(self, elsewhere: Path) -> None:
        write(elsewhere / "conf/experiment/mine.yaml", "# @package _global_\ndefaults:\n  - override /model: rosenet\n")
        with pytest.raises(ConfigError, match="model=rosenet does not exist"):
            compose(["experiment=mine"])

    def test_invalid_yaml_is_told_with_its_file_and_line(self, elsewhere: Path) -> None:
        write(elsewhere / "conf/model/theirs.yaml", "width: [1\nheight: 2\n")
        with pytest.raises(ConfigError, match=r"(?s)not valid YAML.*theirs\.yaml.*line 2"):
            compose(["model=theirs"])


class TestMistakes:
    """Each is one message with what to type instead."""

    @pytest.mark.parametrize(
        "override, expected",
        [
            ("model=cnnn", "did you mean  model=cnn ?\n  all options of model: bag_of_words, cnn, "),
            ("model=MLP", "did you mean  model=mlp ?"),
            ("callbacks=[default,emaa]", "callbacks=emaa does not exist\n  did you mean  callbacks=ema ?"),
            ("data=_image", "data=_image does not exist\n  all options of data: audio_folder, "),
            ("experiment=5", "experiment=5 does not exist"),
            ("modle=mlp", "modle does not exist\n  did you mean  model ?"),
            ("modle/x=mlp", "there is no group modle/x\n  did you mean  model ?"),
            ("x@y=mlp", "there is no group x"),
            ("model=null", "to leave a group out, write ~model"),
            ("model={a:1}", "model is a group; choose one of its options, model=bag_of_words"),
            ("++model=mlp", "an option is chosen with one or no plus sign"),
            ("+experiment=mnist", "experiment is chosen already"),
            ("trainer.max_epoch=3", "did you mean  trainer.max_epochs ?\n  all keys of trainer: accelerator"),
            ("trainer.foo.bar=3", "trainer.foo does not exist"),
            ("seed.x=3", "seed is a value (0) and has no keys"),
            ("batch_size=64", "did you mean  data.batch_size ?"),
            ("trainer.batch_size=64", "did you mean  data.batch_size ?"),
            ("optimizer.lr=1", "type  optimizer.learning_rate=VALUE"),
            ("lr=1", "type  optimizer.learning_rate=VALUE"),
            ("+seed=1", "seed exists already; to change it leave out the plus, seed=1"),
            ("~trainer.foo", "trainer.foo does not exist"),
            ("~seed=5", "the value of seed is 0; to delete it all the same, write ~seed"),
            ("model.widths={a:1}", "model.widths={a:1} cannot be set"),
            ("hydra.run.dir=x", "Hydra's own settings have no effect here"),
            ("name=${nope}", "name refers to nothing: interpolation key 'nope' not found"),
            ("seed=${oc.env:SURELY_NOT_SET}", "SURELY_NOT_SET is not set: export SURELY_NOT_SET=VALUE"),
        ],
    )
    def test_says_what_to_type(self, override: str, expected: str) -> None:
        with pytest.raises(ConfigError) as caught:
            compose([override])
        assert expected in str(caught.value)

    @pytest.mark.parametrize(
        "name, proposal",
        [
            ("a b", "a-b"),
            ("a/b", "a-b"),
            ("../x", "x"),
            ("'-x-'", "x"),
            ("%", "run"),
            ("7", "run-7"),
            ("'.hidden'", "hidden"),
        ],
    )
    def test_a_name_that_is_bad_for_a_directory_is_refused_with_one_that_is_good(
        self, name: str, proposal: str
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            compose([f"name={name}"])
        assert str(caught.value).endswith(f"such as  name={proposal}")

    @pytest.mark.parametrize("name", ["a", "mnist_best", "lr-3e.4", "'7'", "'é'", "a+b"])
    def test_a_name_that_is_good_is_taken(self, name: str) -> None:
        assert compose([f"name={name}"]).config.name == name.strip("'")


class TestAssignments:
    def test_later_overrides_see_what_earlier_ones_added(self) -> None:
        config = compose(["+width=64", "model.widths=[${width},8]", "+callbacks.x={a:1}", "callbacks.x.a=2"]).config
        assert config.model.widths == [64, 8]
        assert config.callbacks.x.a == 2

    def test_one_element_of_a_list_can_be_set(self) -> None:
        assert compose(["model.widths.1=5"]).config.model.widths == [16, 5, 64]

    def test_a_callback_can_be_left_out(self) -> None:
        assert "early_stopping" not in compose(["~callbacks.early_stopping"]).config.callbacks

    def test_two_plus_signs_add_or_change(self) -> None:
        config = compose(["++seed=4", "++fresh=5"]).config
        assert (config.seed, config.fresh) == (4, 5)
