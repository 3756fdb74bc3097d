"""Which weights of a training are the best: the one rule, for what keeps them and for what searches by them."""

from pipeline import metrics


class Best:
    """The best value of a metric so far. Without a monitor nothing is the best, and the newest weights count."""

    monitor: str | None
    mode: str
    in_training: bool
    best_score: float | None = None

    def watch(self, monitor: str | None, mode: str, *, in_training: bool = False) -> None:
        """By which metric weights are the best. One of training is known when the epoch is over."""
        self.monitor, self.mode = monitor, mode
        self.in_training = in_training or (monitor is not None and monitor.startswith("train"))

    def improves(self, score: float) -> bool:
        """Take the score of the newest weights, and say whether they are the best so far."""
        is_best = self.best_score is None or metrics.is_better(score, self.best_score, self.mode)
        if is_best:
            self.best_score = score
        return is_best
