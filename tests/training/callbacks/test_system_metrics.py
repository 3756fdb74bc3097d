import time

import psutil
import pytest
import pytorch_lightning as pl

from pipeline.training.callbacks.monitors import SystemMetrics

OF_ONE_PROCESS = {"cpu_percent", "memory_percent", "disk_percent", "process_memory_mb"}


class Slow(pl.Callback):
    def on_validation_start(self, trainer, pl_module):
        time.sleep(0.3)


def recorded(metrics):
    return [values for _, values in metrics.rows if "system/cpu_percent" in values]


def test_system_metrics_are_sampled_during_training_and_once_at_its_end(fit):
    _, _, metrics = fit(callbacks=lambda: [SystemMetrics(every_n_seconds=0.1), Slow()], epochs=2)
    rows = recorded(metrics)
    assert len(rows) >= 4
    assert all(values.keys() == {f"system/{name}" for name in OF_ONE_PROCESS} for values in rows)
    last = rows[-1]
    assert last["system/process_memory_mb"] == pytest.approx(psutil.Process().memory_info().rss / 1e6, rel=0.3)
    assert 0 < last["system/memory_percent"] < 100 and 0 < last["system/disk_percent"] < 100


def test_a_run_shorter_than_the_interval_has_one_sample_of_system_metrics(fit):
    _, _, metrics = fit(callbacks=lambda: [SystemMetrics(every_n_seconds=1000)], epochs=1)
    assert len(recorded(metrics)) == 1


def test_the_thread_of_system_metrics_ends_with_the_training_however_that_ends(fit):
    import threading

    fit(callbacks=lambda: [SystemMetrics(every_n_seconds=0.1)], epochs=1)
    fit(callbacks=lambda: [SystemMetrics(every_n_seconds=0.1)], interrupt_at=25)
    assert [thread.name for thread in threading.enumerate() if thread.name == "system-metrics"] == []
