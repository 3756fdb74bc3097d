from collections.abc import Callable
from typing import Any

import pytest
from optuna.trial import TrialState
from tests.search.conftest import Ended

from pipeline.search import study as studies
from pipeline.search.supervisor import _share

RATE = "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))"


@pytest.mark.parametrize(
    "visible, count, shares",
    [
        ("0,1,2,3", 2, ["0,1", "2,3"]),
        ("4,7", 2, ["4", "7"]),
        ("0,1", 3, ["0", "1", "0"]),
        ("0,1,2,3,4", 2, ["0,1", "2,3"]),
        ("0,1", 1, [""]),
    ],
)
def test_workers_share_out_the_gpus_that_are_there(
    visible: str, count: int, shares: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [_share(name, count) for name in range(count)] == shares


def test_without_a_gpu_nothing_is_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert _share(0, 2) == ""


class TestAFailureThatAllTrialsShare:
    FAIL = TrialState.FAIL

    def shared(self, make_search: Callable[..., Any], *trials: Ended) -> Any:
        search = make_search([RATE, "data.batch_size=64,128"], trials)
        found = studies.shared_failure(search.study.get_trials())
        return None if found is None else found.user_attrs[studies.REASON]

    def failed(self, batch_size: int, reason: str = "no such thing") -> Ended:
        return Ended({"data.batch_size": batch_size}, state=self.FAIL, attributes={studies.REASON: reason})

    def test_is_one_of_two_with_different_values(self, make_search: Callable[..., Any]) -> None:
        assert self.shared(make_search, self.failed(64), self.failed(128)) == "no such thing"

    @pytest.mark.parametrize(
        "sizes, reasons, others",
        [
            ([64], ["a"], []),
            ([64, 64], ["a", "a"], []),  # the same values, tried again
            ([64, 128], ["a", "b"], []),
            ([64, 128], ["a", "a"], [Ended({"data.batch_size": 64}, [0.5])]),
            ([64, 128], ["a", "a"], [Ended({"data.batch_size": 64}, state=TrialState.RUNNING, curve={1: 0.5})]),
        ],
    )
    def test_is_none_where_others_may_do_better(
        self, make_search: Callable[..., Any], sizes: list[int], reasons: list[str], others: list[Ended]
    ) -> None:
        failed = [self.failed(size, reason) for size, reason in zip(sizes, reasons, strict=True)]
        assert self.shared(make_search, *failed, *others) is None
