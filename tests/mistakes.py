"""Mistakes that people make, over all groups: none of them needs the data, or torch, to be found."""

from tests.config.test_ranges import OUT_OF_RANGE

MISSPELT = """
train model=cnnn
train model=MLPP
train data=minst
train data=fashion-mnist
train optimizer=adam
train scheduler=onecycle
train regularizer=l3
train callbacks=earlystopping
train callbacks=[default,emaa]
train trainer=gpu
train tracking=wandb
train launch=slrum
train task=clasification
train checkpoint=all
train initialization=he
train experiment=nosuch
train remedy=mixupp
train modle=mlp
train modle/x=mlp
train trainer.max_epoch=3
train trainer.accelerators=cpu
train optimizer.lr=1
train optimizer.learning_rates=1
train optimizer.weigth_decay=0.1
train scheduler.warmup=0.1
train data.batch_sizes=3
train data.num_workers=4
train data.shuffle=true
train data.path=x
train data.sourc.positive=x
train model.width=[3]
train model.activations=relu
train model.dropuot=0.1
train checkpoint.kep=3
train tracking.url=x
train launch.hang_secs=3
train callbacks.ema.deacy=0.9
train callbacks.early_stoping.patience=3
train callbacks.early_stopping.patiense=3
train batch.on_oom=halve
train nmae=x
train sed=1
train lr=0.1
train epochs=3
train gpus=2
train batch_size=64
train +trainer.max_epoch=3
train +checkpoint.kep=3
train +callbacks.early_stoping.patience=3
train +nmae=x
train +trainer.logger=false
train +data.seed=3
train model.blocks.depth=2
train seed.value=3
trian
traine model=mlp
evaluat run=latest
evaluate run=nosuch
evaluate ran=latest
evaluate run=latest data.rot=x
diagnose run=nosuch
diagnose rnu=latest
report run=nosuch
compare runs=nosuch,nother
resume run=nosuch
logs nosuch
cancel nosuch
runs show nosuch
register run=nosuch name=x
sync run=nosuch
train --inof
train --config-name trian
train --config-dir nowhere
train --cfg hydra
search nosuchverb
search
search model=mlp
"""

WRONG_KINDS = """
train optimizer.learning_rate=abc
train optimizer.learning_rate=null
train optimizer.learning_rate=[0.1]
train optimizer.betas=0.9
train optimizer.betas=[a,b]
train trainer.max_epochs=3.5
train trainer.max_epochs="'7'"
train trainer.max_epochs=ten
train trainer.max_steps=null
train trainer.devices=0
train trainer.devices=two
train trainer.devices=[]
train trainer.devices=1.5
train trainer.deterministic=maybe
train trainer.accumulate_grad_batches=two
train trainer.gradient_clip_val=x
train seed=
train seed=true
train seed=abc
train seed=1.5
train seed=null
train auto_resume=1
train auto_resume=yes
train init_from=3
train name=a/b
train name=[a]
train data.batch_size=null
train data.batch_size=12.5
train data.batch_size=many
train data.root=5
train data.root=nowhere
train data.balanced=1
train data.folds=five
train data.source=mnist
train data=table data.source.categorical=a
train data=table data.source.header=1
train data=text_table data.source.header=1
train data=text_table data.source.tokenizer.lowercase=no
train data=image_folder data.source.size=64
train data=image_folder data.source.channels=three
train model.widths=3
train model.widths=[1,a]
train model.dropout=high
train model.depth=1.5
train model=mlp model.batch_norm=1
train model=gru model.bidirectional=both
train model=timm model.name=3
train model=hugging_face model.settings=3
train checkpoint.keep=two
train checkpoint.every_n_steps=1.5
train tracking.uri=3
train callbacks.early_stopping=3
train callbacks.early_stopping.patience=1.5
train callbacks.early_stopping.monitor=3
train callbacks.ema.decay=x
train callbacks=augmentation callbacks.augmentation.transforms.affine.p=x
train scheduler.warmup_share=a
train scheduler.warmup_epochs=x
train task.label_smoothing=x
train task.class_weights=[a]
train regularizer=l1 regularizer.l1.strength=x
train allow_packages=mine
train allow_packages=[a.b]
train model._target_=3
train model._target_=pipeline.models.cnn.CNNN
train model._target_=pipeline.models.cnn
train model._target_=os.system
train model._target_=surely_not_here.Net
train optimizer._target_=torch.optim.AdmaW
ui port=x
ui port=99999
search dashboard port=0
runs last=x
chaos kills=x
sync upgrade=maybe
register name=x force=maybe
"""

COMBINATIONS = """
train data=iris
train data=iris model=cnn
train data=iris model=gru
train model=lstm
train model=text_cnn
train model=hugging_face
train data=text_table data.root=. model=mlp
train data=table data.root=. data.source.target=x
train data=sst2 data.root=. model=vit
train data=diabetes model=softmax_regression
train data=diabetes model=mlp task=classification
train data=diabetes model=mlp task.label_smoothing=0.1
train data=diabetes model=mlp task.class_weights=balanced
train data=iris model=linear_regression
train data=iris model=logistic_regression
train data=breast_cancer model=linear_regression
train task=regression
train task=multilabel
train task=binary
train model=perceptron
train data=iris model=mlp callbacks=[default,augmentation]
train callbacks=[default,token_dropout]
train callbacks=[default,spec_augment]
train callbacks=[default,swap_noise]
train data=spoken_digits callbacks=[default,rand_augment]
train callbacks=[default,unfreezing]
train trainer.check_val_every_n_epoch=20
train trainer.max_epochs=1 trainer.check_val_every_n_epoch=2
train scheduler.warmup_epochs=11
train trainer.max_epochs=-1
train trainer.max_epochs=null
train data.batch_size=100 trainer.devices=3
train data.batch_size=100 trainer.devices=[0,1,2]
train data.balanced=true task.class_weights=balanced
train data.fold=2
train data.folds=3 data.fold=3
train data=iris model=mlp data.source.validation_share=0.6 data.source.test_share=0.4
train checkpoint.mode=max
train checkpoint.monitor=val/accuracy
train callbacks.early_stopping.monitor=val/accuracy
train batch.on_out_of_memory=halve trainer.strategy=fsdp
train +trainer.limit_train_batches=3
train +trainer.fast_dev_run=true
train +trainer.val_check_interval=0.5
train ~model
train ~regularizer
train ~model.dropout
train model=[mlp,cnn]
train model=mlp,cnn
train seed=1,2
train seed=range(3)
train model.widths=[1
train +seed=3
train ++model={}
train model.widths=${nosuch}
train data=table
train data=image_folder
train data=.
search model.dropout=interval(0,2) runs_dir=.
search seed=0,-1
search model=cnn,lstm
search model=mlp,cnn data=iris
search trainer.max_epochs=0,1
"""

OF_RANGE = [f"train {line}" for line in OUT_OF_RANGE.split("\n")[1:-1]]
MISTAKES = [*OF_RANGE, *(line for text in (MISSPELT, WRONG_KINDS, COMBINATIONS) for line in text.split("\n")[1:-1])]
