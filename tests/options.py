"""The data and the model beside which an option makes sense, where the default ones are not."""

OF_TABLES = ["data=iris", "model=mlp"]
OF_TEXT = ["data=text_table", "model=gru"]
OF_SOUND = ["data=spoken_digits"]
BESIDE = {
    "callbacks/feature_noise": OF_TABLES,
    "callbacks/swap_noise": OF_TABLES,
    "callbacks/token_dropout": OF_TEXT,
    "callbacks/time_shift": OF_SOUND,
    "callbacks/waveform_noise": OF_SOUND,
    "callbacks/spec_augment": OF_SOUND,
    "callbacks/unfreezing": ["init_from=run"],
    "remedy/feature_noise": OF_TABLES,
    "remedy/swap_noise": OF_TABLES,
    "remedy/token_dropout": OF_TEXT,
    "model/linear_regression": ["data=diabetes"],
    "model/logistic_regression": ["data=breast_cancer"],
    "model/perceptron": ["data=breast_cancer"],
    **{f"model/{name}": ["data=text_table"] for name in ("bag_of_words", "gru", "lstm", "ngrams")},
    **{f"model/{name}": ["data=text_table"] for name in ("hugging_face", "text_cnn", "transformer")},
    "task/binary": ["data=breast_cancer", "model=mlp"],
    "task/perceptron": ["data=breast_cancer", "model=mlp"],
    "task/multilabel": ["data=image_folder"],
    "task/regression": ["data=diabetes", "model=mlp"],
    **{f"data/{name}": ["model=mlp"] for name in ("iris", "wine", "breast_cancer", "diabetes", "california_housing")},
    "data/table": ["model=mlp"],
    "data/text_table": ["model=gru"],
    "data/sst2": ["model=gru"],
}


def beside(group: str, option: str) -> list[str]:
    return BESIDE.get(f"{group}/{option}", [])
