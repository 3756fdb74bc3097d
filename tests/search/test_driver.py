import pytest

from pipeline.search.driver import _share


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
