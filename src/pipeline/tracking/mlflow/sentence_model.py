"""Compute a network's scores of sentences: the code of a logged text model, which MLflow loads by itself.

A copy of this file lies beside the model, so it imports nothing of this package.
"""

from pathlib import Path
from typing import Any

NETWORK, TOKENIZER = "network", "tokenizer.json"


class SentenceModel:
    """A network with its tokenizer.

    tokenizer  of Hugging Face's tokenizers; truncates and pads sentences to the length that the network takes
    network    token numbers (N, T) int64 -> scores (N, K)
    """

    def __init__(self, *, tokenizer: Any, network: Any) -> None:
        self.tokenizer = tokenizer
        self.network = network

    def predict(self, sentences: Any, params: Any = None) -> Any:
        """Return the scores (N, K), a float32 array, of a table with one column of N strings."""
        import torch

        texts = [str(text) for text in sentences.iloc[:, 0]]
        tokens = torch.tensor([encoding.ids for encoding in self.tokenizer.encode_batch(texts)])
        with torch.no_grad():
            return self.network(tokens).numpy()


def _load_pyfunc(path: str) -> SentenceModel:
    """Load the model; MLflow calls this function by its name (mlflow.pyfunc, loader_module)."""
    import mlflow.pytorch
    from tokenizers import Tokenizer

    network = mlflow.pytorch.load_model(str(Path(path) / NETWORK))
    return SentenceModel(tokenizer=Tokenizer.from_file(str(Path(path) / TOKENIZER)), network=network)
