"""Numbers and names that no run could use, over all groups, by the annotations of the classes."""

from collections.abc import Iterator

import pytest

from pipeline.config.checks.check_config import check_config
from pipeline.config.compose import compose
from pipeline.config.search_path import config_folders, option_groups
from pipeline.config.static import lookup, signature
from pipeline.config.static.annotation import alternatives
from pipeline.config.target_allowlist import target_nodes
from pipeline.errors import ConfigError

OUT_OF_RANGE = """
trainer.max_epochs=0
trainer.max_steps=0
callbacks.early_stopping.patience=-1
trainer.log_every_n_steps=0
trainer.check_val_every_n_epoch=0
trainer.max_epochs=-2
trainer.max_steps=-7
trainer.num_nodes=0
trainer.accumulate_grad_batches=0
trainer.gradient_clip_val=-1
trainer.gradient_clip_algorithm=nrom
trainer.accelerator=cdua
trainer.strategy=dpp
trainer.precision=17
seed=-1
seed=99999999999999999999
batch.on_out_of_memory=half
checkpoint.keep=0
checkpoint.every_n_steps=0
checkpoint.every_n_minutes=0
checkpoint.mode=top
callbacks.early_stopping.min_delta=-0.1
callbacks.early_stopping.mode=low
callbacks.ema.decay=1
callbacks.system_metrics.every_n_seconds=0
callbacks=augmentation callbacks.augmentation.transforms.affine.p=1.5
callbacks=augmentation callbacks.augmentation.transforms.affine.translate=[0.1,2]
callbacks=augmentation callbacks.augmentation.transforms.affine.scale=[0,1]
callbacks=augmentation callbacks.augmentation.transforms.noise.std=-1
callbacks=augmentation callbacks.augmentation.transforms.horizontal_flip.p=-0.5
callbacks=augmentation callbacks.augmentation.transforms.erasing.scale=[0.1,1.5]
callbacks=rand_augment callbacks.augmentation.transforms.rand_augment.magnitude=30
callbacks=rand_augment callbacks.augmentation.transforms.rand_augment.operations=0
callbacks=mixup callbacks.mixup.alpha=0
callbacks=cutmix callbacks.cutmix.p=2
callbacks=feature_noise callbacks.feature_noise.std=-1
callbacks=swap_noise callbacks.swap_noise.p=1
callbacks=token_dropout callbacks.token_dropout.p=1
callbacks=time_shift callbacks.time_shift.share=1
callbacks=waveform_noise callbacks.waveform_noise.p=2
callbacks=waveform_noise callbacks.waveform_noise.decibels=[10]
callbacks=waveform_noise callbacks.waveform_noise.decibels=[40,10]
callbacks=spec_augment callbacks.spec_augment.time_width=-1
callbacks=swa callbacks.swa.start_share=1
callbacks=swa callbacks.swa.batch_norm_steps=0
callbacks=swa callbacks.swa.every_n_steps=0
callbacks=unfreezing init_from=x callbacks.unfreezing.frozen_epochs=-1
optimizer.learning_rate=0
optimizer.learning_rate=nan
optimizer.learning_rate=inf
optimizer.weight_decay=-1
optimizer.betas=[0.9]
optimizer.betas=[0.9,1.5]
optimizer=sgd optimizer.momentum=1
scheduler.warmup_share=1.5
scheduler.warmup_epochs=-1
scheduler=cosine scheduler.final_share=2
regularizer=l1 regularizer.l1.strength=-1
regularizer=l2 regularizer.l2.strength=-1
initialization=normal initialization.std=-1
initialization=xavier initialization.gain=0
initialization=kaiming initialization.nonlinearity=rellu
task.label_smoothing=1
task.class_weights=balance
task.class_weights=[1,-1]
data.batch_size=0
data.evaluation_batch_size=0
data.train_fraction=0
data.train_fraction=1.1
data.folds=1
data.fold=-1
data.on_copies=drp
data=mnist data.source.validation_size=0
data=iris data.source.test_share=1.0
data=iris data.source.validation_share=0
data=iris data.source.split_seed=-1
data=image_folder data.source.size=[64]
data=image_folder data.source.size=[0,64]
data=image_folder data.source.channels=2
data=image_folder data.source.on_bad_sample=skp
data=audio_folder data.source.sample_rate=100
data=audio_folder data.source.seconds=0
data=table data.source.one_hot_up_to=-1
data=table data.source.answer=classes
data=text_table data.source.tokenizer.vocabulary_size=0
data=text_table data.source.tokenizer.least_count=0
data=text_table data.source.tokenizer.max_length=0
model.dropout=1.0
model.dropout=-0.1
model.widths=[]
model.widths=[0]
model.depth=0
model.activation=rellu
model.activation=torch.nn.Msih
model.activation=os.system
model=mlp model.widths=[64,0]
model=resnet model.widths=[]
model=lenet5 model.activation=tnah
model=vit model.patch_size=0
model=vit model.pooling=meen
model=text_cnn model.windows=[]
model=text_cnn model.channels=0
model=ngrams model.longest=0
model=ngrams model.buckets=0
model=bag_of_words model.width=0
model=bag_of_words model.pair_buckets=-1
model=gru model.hidden=0
model=gru model.cell=rnn
model=gru model.embedding_dropout=1
model=transformer model.depth=0
model=transformer model.heads=0
model=transformer model.width=10
"""

# Where any number will do, or what will do is for others to say: the launchers', Lightning's and kornia's own words.
ANY_NUMBER = {
    "kornia.augmentation.RandomAffine.degrees",
    "pytorch_lightning.Trainer.devices",
    "pipeline.training.callbacks.audio_augmentation.WaveformNoise.decibels",
    "pipeline.data.text.text_table.TextTable.text",
    "pipeline.data.text.text_table.TextTable.label",
}


@pytest.mark.parametrize("typed", OUT_OF_RANGE.split("\n")[1:-1])
def test_what_is_out_of_range_is_refused_by_its_own_key(typed: str) -> None:
    overrides = typed.split()
    composed = compose(overrides)
    with pytest.raises(ConfigError) as told:
        check_config(composed.config, composed.shipped)
    key = overrides[-1].partition("=")[0]
    assert key in str(told.value).partition("\n")[0]
    assert "expected" in str(told.value)


def numbers_of_options() -> Iterator[tuple[str, str]]:
    for group, options in option_groups(config_folders()).items():
        for option in options:
            if group.partition("/")[0] in ("launch", "experiment", "remedy", "search"):
                continue
            for _, node in target_nodes({group: compose([f"{group}={option}"]).config[group]}):
                for name, value in node.items():
                    elements = value if isinstance(value, list) else [value]
                    if any(isinstance(each, int | float) and not isinstance(each, bool) for each in elements):
                        yield node["_target_"], name


def test_every_number_of_an_option_has_a_range() -> None:
    without = []
    for target, name in sorted(set(numbers_of_options())):
        found = signature.signature_of_source(lookup.find_entity(target))
        assert found is not None
        parameter = found.parameters[name]
        assert parameter.annotation is not None and parameter.module is not None
        plain = [each for each in alternatives(parameter.annotation, parameter.module) if not each.constraints]
        if any(getattr(each.type, "id", "") in ("int", "float") for each in plain):
            without.append(f"{target}.{name}")
    assert set(without) <= ANY_NUMBER
