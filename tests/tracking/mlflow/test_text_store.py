"""A text model in MLflow: it is given sentences, and answers as the network does."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer
from torch import nn

from pipeline.data.text.tokenizer import Tokenization, encode_sentences, fix_length
from pipeline.models.bag_of_words import BagOfWords
from pipeline.models.network import Network
from pipeline.spec import DataSpec
from pipeline.tracking.mlflow.mlflow_client import mlflow_client
from pipeline.tracking.mlflow.models import TextPreprocessing, log_model
from pipeline.tracking.mlflow.store import MlflowStore

LEARNED = ["a good film", "a bad film", "no film at all"]
ASKED = ["a bad film", "A GOOD film", "unheard-of", "a film that goes on for longer than any other that there ever was"]
LOAD = """
import sys
import mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
print(model.predict(pandas.DataFrame({"text": sys.argv[3:]})).tolist())
assert not [name for name in sys.modules if name.split(".")[0] == "pipeline"]
"""


@pytest.fixture
def tokenizer() -> Tokenizer:
    asked = Tokenization(kind="words", vocabulary_size=50, least_count=1, lowercase=True, max_length=6)
    learned = asked.learn(LEARNED)
    fix_length(learned, LEARNED)
    return learned


@pytest.fixture
def network(tokenizer: Tokenizer) -> nn.Module:
    torch.manual_seed(0)
    size = tokenizer.get_vocab_size()
    spec = DataSpec("reviews", "text", "binary", (4,), ("no", "yes"), (), (), vocabulary_size=size)
    return Network(body=BagOfWords(spec=spec, width=8, pair_buckets=20, dropout=0.5), spec=spec).eval()


@pytest.fixture
def logged(sqlite_uri: str, tmp_path: Path, run_dir: Path, network: nn.Module, tokenizer: Tokenizer) -> str:
    store = MlflowStore(sqlite_uri, str(tmp_path / "artifacts"))
    run_id = store.open_run(experiment="reviews", name="bag", run_uid=run_dir.name, time=0, known_id=None).run_id
    reading = TextPreprocessing(tokenizer.to_str(), tuple(LEARNED[:2]))
    example = encode_sentences(tokenizer, LEARNED[:2])
    return log_model(uri=sqlite_uri, run_id=run_id, network=network, example=example, reading=reading)


def test_a_logged_text_model_takes_any_number_of_sentences_of_any_length(
    logged: str, sqlite_uri: str, network: nn.Module, tokenizer: Tokenizer
) -> None:
    import mlflow

    mlflow.set_tracking_uri(sqlite_uri)
    try:
        model = mlflow.pyfunc.load_model(logged)
        expected = network(encode_sentences(tokenizer, ASKED)).detach()
        for count in (1, 2, 4):
            scores = model.predict(pd.DataFrame({"text": ASKED[:count]}))
            torch.testing.assert_close(torch.from_numpy(scores), expected[:count])
        torch.testing.assert_close(torch.from_numpy(model.predict(ASKED)), expected)
        alone = mlflow.pytorch.load_model(logged)
        torch.testing.assert_close(alone(encode_sentences(tokenizer, ASKED).long()), expected)
        (given,), (returned,) = model.metadata.signature.inputs.inputs, model.metadata.signature.outputs.inputs
        assert given.type.name == "string" and returned.shape == (-1, 1)
        with pytest.raises(mlflow.exceptions.MlflowException):
            model.predict(pd.DataFrame({"text": [1, 2]}))
    finally:
        mlflow.set_tracking_uri(None)


def test_a_logged_text_model_holds_its_tokenizer_and_names_its_requirements(logged: str, sqlite_uri: str) -> None:
    model = mlflow_client(sqlite_uri).get_logged_model(logged.removeprefix("models:/"))
    folder = Path(model.artifact_location.removeprefix("file://"))
    (kept,) = folder.rglob("tokenizer.json")
    assert len(Tokenizer.from_file(str(kept)).encode("a film").ids) == 4
    requirements = (folder / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in requirements] == ["torch", "numpy", "mlflow", "tokenizers"]
    assert list(folder.rglob("*.pkl")) == []


@pytest.mark.slow
def test_a_logged_text_model_is_loaded_without_this_package(
    logged: str, sqlite_uri: str, network: nn.Module, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", LOAD, sqlite_uri, logged, *ASKED]
    done = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True)
    found = torch.tensor(json.loads(done.stdout))
    torch.testing.assert_close(found, network(encode_sentences(tokenizer, ASKED)).detach())
