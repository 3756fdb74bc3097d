from pathlib import Path

import pytest

from pipeline.launch import devices


@pytest.mark.parametrize(
    "asked, accelerator, expected",
    [(1, "auto", 1), (4, "cpu", 4), ("2", "cpu", 2), ([0, 2], "gpu", 2), ("auto", "cpu", 1), (-1, "cpu", 1)],
)
def test_devices_are_counted_as_one_process_each(asked: int | str | list[int], accelerator: str, expected: int) -> None:
    assert devices.process_count(asked, accelerator) == expected


@pytest.mark.parametrize("visible, expected", [("", 0), ("-1", 0), ("0", 1), ("2,3", 2), ("GPU-8f6c, GPU-1a2b", 2)])
def test_gpus_are_counted_as_a_new_process_would_see_them(
    monkeypatch: pytest.MonkeyPatch, visible: str, expected: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.gpu_count() == expected
    assert devices.process_count("auto", "auto") == max(expected, 1)


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="this machine has NVIDIA's driver")
def test_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.gpu_count() == 0


def test_only_cores_that_this_process_may_use_are_counted() -> None:
    assert devices.core_count() >= 1
