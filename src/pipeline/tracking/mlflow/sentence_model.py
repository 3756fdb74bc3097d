"""From sentences to a network's scores: what MLflow loads of a text model that was logged, as a module by itself.

A copy of this file lies beside the model, so it imports nothing of this package.
"""

from pathlib import Path
from typing import Any

NETWORK, TOKENIZER = "network", "tokenizer.json"


class SentenceModel:
    """tokenizer  of Hugging Face's tokenizers; cuts and fills sentences to the length that the network takes
    network    token numbers (N, T) int64 -> scores (N, K)
    """

    def __init__(self, *, tokenizer: Any, network: Any) -> None:
        self.tokenizer = tokenizer
        self.network = network

    def predict(self, sentences: Any, params: Any = None) -> Any:
        """A table with one column of strings -> (N, K) float32, an array."""
        import torch

        texts = [str(text) for text in sentences.iloc[:, 0]]
        tokens = torch.tensor([encoding.ids for encoding in self.tokenizer.encode_batch(texts)])
        with torch.no_grad():
            return self.network(tokens).numpy()


def _load_pyfunc(path: str) -> SentenceModel:
    """By this name MLflow asks for it (mlflow.pyfunc, loader_module)."""
    import mlflow.pytorch
    from tokenizers import Tokenizer

    network = mlflow.pytorch.load_model(str(Path(path) / NETWORK))
    return SentenceModel(tokenizer=Tokenizer.from_file(str(Path(path) / TOKENIZER)), network=network)
