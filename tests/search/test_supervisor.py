"""How the workers of a search share a machine."""

import pytest

from pipeline.search.supervisor import _gpu_share


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
def test_workers_share_the_visible_gpus(
    visible: str, count: int, shares: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [_gpu_share(number, count) for number in range(count)] == shares


def test_no_gpu_is_assigned_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert _gpu_share(0, 2) == ""
