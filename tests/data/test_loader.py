"""Batches from memory: the order, the chunks, resuming, several processes."""

from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.dataset import Split
from pipeline.data.loader import EvaluationLoader, TrainLoader, balanced_order, chunk_bounds, epoch_order
from pipeline.spec import Batch


def part(size: int) -> Split:
    """Samples that hold their own row number, as two pixels and as the label."""
    rows = torch.arange(size)
    return Split(torch.stack([rows // 256, rows % 256], 1).to(torch.uint8).view(size, 1, 1, 2), rows)


def train_loader(size: int = 100, *, epoch: int = 0, **options: int) -> TrainLoader:
    return TrainLoader(part(size), epoch=lambda: epoch, **{"batch_size": 8, "seed": 0, **options})


def steps(loader: TrainLoader) -> Iterator[list[list[int]]]:
    """The rows of each micro-batch of each step."""
    for chunk in loader:
        for micro_batches in chunk:
            yield [batch.ids.tolist() for batch in micro_batches]


def rows_of(batch: Batch) -> list[int]:
    """The row numbers that the samples themselves hold."""
    high, low = batch.inputs.long().flatten(1).unbind(1)
    return (high * 256 + low).tolist()


class TestOrder:
    def test_it_depends_on_seed_and_epoch_and_on_nothing_else(self) -> None:
        orders = {(s, e): tuple(epoch_order(50, seed=s, epoch=e).tolist()) for s in (0, 1) for e in (0, 1)}
        assert len(set(orders.values())) == 4
        torch.rand(7)
        assert tuple(epoch_order(50, seed=1, epoch=1).tolist()) == orders[1, 1]

    def test_it_leaves_the_random_numbers_of_others_alone(self) -> None:
        state = torch.get_rng_state()
        list(steps(train_loader()))
        assert torch.equal(torch.get_rng_state(), state)

    def test_every_sample_comes_at_most_once_and_only_what_fills_no_batch_is_left_out(self) -> None:
        seen = [row for step in steps(train_loader(100)) for rows in step for row in rows]
        assert len(seen) == len(set(seen)) == 96


class TestBalancedOrder:
    LABELS = torch.tensor([0] * 70 + [3] * 20 + [5] * 11)  # 101, of classes that are not all there are

    def order(self, **changes: int) -> torch.Tensor:
        return balanced_order(self.LABELS, **({"seed": 0, "epoch": 0} | changes))

    def test_every_class_comes_equally_often_and_each_of_its_rows_too(self) -> None:
        for epoch in range(5):
            order = self.order(epoch=epoch)
            assert len(order) == 101
            assert sorted(torch.bincount(self.LABELS[order])[[0, 3, 5]].tolist()) == [33, 34, 34]
            times = torch.bincount(order, minlength=101)
            assert times[:70].max() == 1 and set(times[70:90].tolist()) == {1, 2} and set(times[90:].tolist()) <= {3, 4}

    def test_it_depends_on_seed_and_epoch_and_is_mixed(self) -> None:
        assert torch.equal(self.order(), self.order())
        assert not torch.equal(self.order(), self.order(epoch=1)) and not torch.equal(self.order(), self.order(seed=1))
        halves = self.LABELS[self.order()].split(51)
        assert all((half == name).sum() > 8 for half in halves for name in (0, 3, 5))

    def test_in_the_long_run_all_rows_of_a_frequent_class_come(self) -> None:
        seen = torch.cat([self.order(epoch=epoch) for epoch in range(12)]).unique()
        assert len(seen) == 101

    def test_a_loader_goes_on_where_it_stopped_and_processes_share_the_batches(self) -> None:
        def loader(**options: int) -> TrainLoader:
            given = Split(torch.zeros(101, 1), self.LABELS)
            return TrainLoader(given, epoch=lambda: 2, batch_size=10, seed=0, balanced=True, **options)

        whole = list(steps(loader()))
        resumed = loader()
        resumed.load_state_dict({"epoch": 2, "step": 4})
        assert list(steps(resumed)) == whole[4:]
        both = zip(*(steps(loader(rank=rank, world_size=2)) for rank in (0, 1)), strict=True)
        assert [[one[0] + other[0]] for one, other in both] == whole

    def test_looking_at_batches_leaves_the_position(self) -> None:
        loader = train_loader(100)
        loader.load_state_dict({"epoch": 0, "step": 3})
        assert [batch.ids.tolist() for batch in loader.batches()] == [step[0] for step in steps(train_loader(100))]
        assert loader.state_dict() == {"epoch": 0, "step": 3}


class TestBatches:
    def test_inputs_targets_and_ids_belong_together(self) -> None:
        for chunk in train_loader(600):
            for (batch,) in chunk:
                assert rows_of(batch) == batch.targets.tolist() == batch.ids.tolist()
                assert batch.mask is None
                assert batch.inputs.dtype == torch.uint8
                assert batch.inputs.shape == (8, 1, 1, 2)

    def test_a_step_has_as_many_batches_as_it_accumulates_and_the_last_what_is_left(self) -> None:
        loader = train_loader(100, accumulate=5)
        assert [len(step) for step in steps(loader)] == [5, 5, 2]
        assert (loader.batches_per_epoch, loader.steps_per_epoch) == (12, 3)

    def test_accumulation_changes_no_batch(self) -> None:
        one_by_one = [rows for step in steps(train_loader()) for rows in step]
        assert [rows for step in steps(train_loader(accumulate=5)) for rows in step] == one_by_one

    @settings(deadline=None)
    @given(size=st.integers(24, 200), processes=st.sampled_from([1, 2, 3, 4, 6]), epoch=st.integers(0, 5))
    def test_any_number_of_processes_sees_the_same_batches(self, size: int, processes: int, epoch: int) -> None:
        alone = [rows for step in steps(train_loader(size, epoch=epoch, batch_size=12)) for rows in step]
        each = [
            steps(train_loader(size, epoch=epoch, batch_size=12, rank=rank, world_size=processes))
            for rank in range(processes)
        ]
        together = [[row for (rows,) in step for row in rows] for step in zip(*each, strict=True)]
        assert together == alone


class TestChunks:
    def test_they_end_at_multiples_of_the_whole_training_and_with_the_epoch(self) -> None:
        bounds = [list(chunk_bounds(epoch=epoch, start=0, steps_per_epoch=27, every=50)) for epoch in range(4)]
        assert bounds == [[(0, 27)], [(0, 23), (23, 27)], [(0, 27)], [(0, 19), (19, 27)]]

    @settings(deadline=None)
    @given(epoch=st.integers(0, 20), steps=st.integers(1, 40), every=st.integers(1, 60), data=st.data())
    def test_from_any_start_they_are_the_tail_of_the_whole_with_the_same_ends(
        self, epoch: int, steps: int, every: int, data: st.DataObject
    ) -> None:
        start = data.draw(st.integers(0, steps - 1))
        whole = list(chunk_bounds(epoch=epoch, start=0, steps_per_epoch=steps, every=every))
        tail = list(chunk_bounds(epoch=epoch, start=start, steps_per_epoch=steps, every=every))
        assert [step for run in whole for step in range(*run)] == list(range(steps))
        assert [step for run in tail for step in range(*run)] == list(range(start, steps))
        assert [last for _, last in tail] == [last for _, last in whole if last > start]
        assert all((epoch * steps + last) % every == 0 for _, last in whole[:-1])
        assert all(last - first <= every for first, last in whole)

    def test_a_chunk_knows_its_steps_and_draws_nothing_before_it_is_iterated(self) -> None:
        loader = train_loader(100, log_every_n_steps=5)
        chunks = list(loader)
        assert [(chunk.first_step, chunk.last_step, len(chunk)) for chunk in chunks] == [
            (0, 5, 5),
            (5, 10, 5),
            (10, 12, 2),
        ]
        assert loader.state_dict() == {"epoch": 0, "step": 0}

    def test_the_epoch_is_asked_for_when_the_first_chunk_is_wanted(self) -> None:
        now = 0
        loader = TrainLoader(part(100), batch_size=8, seed=0, epoch=lambda: now)
        iterator = iter(loader)
        now = 3
        first = [batch.ids.tolist() for (batch,) in next(iterator)]
        assert first == [rows for step in steps(train_loader(epoch=3)) for rows in step]

    def test_the_loader_has_no_length(self) -> None:
        with pytest.raises(TypeError):
            len(train_loader())  # type: ignore[arg-type]


class TestResume:
    @settings(deadline=None)
    @given(
        stop=st.integers(1, 12),
        epoch=st.integers(0, 3),
        every=st.integers(1, 14),
        accumulate=st.integers(1, 3),
    )
    def test_what_follows_is_the_tail_of_the_uninterrupted_epoch(
        self, stop: int, epoch: int, every: int, accumulate: int
    ) -> None:
        options = {"epoch": epoch, "log_every_n_steps": every, "accumulate": accumulate}
        whole = list(steps(train_loader(**options)))
        stop = min(stop, len(whole))
        interrupted = train_loader(**options)
        before = list(islice(steps(interrupted), stop))
        state = interrupted.state_dict()
        assert state == {"epoch": epoch, "step": stop}

        resumed = train_loader(**options)
        resumed.load_state_dict(state)
        assert resumed.state_dict() == state
        assert before + list(steps(resumed)) == whole
        assert resumed.state_dict() == {"epoch": epoch, "step": len(whole)}

    def test_a_finished_epoch_is_one_empty_chunk(self) -> None:
        loader = train_loader()
        loader.load_state_dict({"epoch": 0, "step": 12})
        (chunk,) = loader
        assert list(chunk) == []
        assert loader.state_dict() == {"epoch": 0, "step": 12}

    def test_later_epochs_begin_at_their_start(self) -> None:
        epoch = 2
        loader = TrainLoader(part(100), batch_size=8, seed=0, epoch=lambda: epoch)
        loader.load_state_dict({"epoch": 2, "step": 9})
        assert len(list(steps(loader))) == 3
        epoch = 3
        assert len(list(steps(loader))) == 12
        assert loader.state_dict() == {"epoch": 3, "step": 12}

    def test_a_second_iterator_over_the_epoch_goes_on_from_the_same_place(self) -> None:
        loader = train_loader()
        loader.load_state_dict({"epoch": 0, "step": 9})
        next(iter(loader))  # Lightning looks one chunk ahead, and may make its iterator twice
        assert len(list(steps(loader))) == 3


class TestEvaluation:
    def test_every_sample_comes_once_in_order(self) -> None:
        loader = EvaluationLoader(part(600), batch_size=250)
        batches = list(loader)
        assert [len(batch) for batch in batches] == [250, 250, 100]
        assert len(loader) == 3
        assert [row for batch in batches for row in rows_of(batch)] == list(range(600))
        assert all(batch.mask is None for batch in batches)

    @settings(deadline=None)
    @given(size=st.integers(1, 60), batch_size=st.integers(1, 20), processes=st.integers(1, 7))
    def test_processes_share_the_samples_and_have_batches_of_the_same_sizes(
        self, size: int, batch_size: int, processes: int
    ) -> None:
        loaders = [
            EvaluationLoader(part(size), batch_size=batch_size, rank=rank, world_size=processes)
            for rank in range(processes)
        ]
        batches = [list(loader) for loader in loaders]
        assert {len(loader) for loader in loaders} == {len(each) for each in batches}
        assert len({tuple(len(batch) for batch in each) for each in batches}) == 1
        counted = []
        for batch in (batch for each in batches for batch in each):
            assert rows_of(batch) == batch.targets.tolist() == batch.ids.tolist()
            mask = torch.ones(len(batch), dtype=torch.bool) if batch.mask is None else batch.mask
            assert batch.mask is None or not batch.mask.all()
            counted += batch.ids[mask].tolist()
        assert counted == list(range(size))
