import os
import pickle

import pytest
import torch

from pipeline.errors import RunError
from pipeline.training import checkpoints


def save(folder, step):
    path = folder / checkpoints.CHECKPOINT_NAME.format(step)
    checkpoints.save_checkpoint({"weights": torch.arange(1000) + step}, path)
    return path


def test_a_saved_checkpoint_is_loaded_again(tmp_path):
    path = save(tmp_path, 7)
    assert torch.equal(checkpoints.load_checkpoint(path)["weights"], torch.arange(1000) + 7)


def test_the_digest_is_what_sha256sum_prints(tmp_path):
    import hashlib

    path = save(tmp_path, 7)
    expected = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
    assert checkpoints.digest_path(path).read_text() == expected


@pytest.mark.parametrize("lost", [None, b"", b"\0" * 85, b"0" * 85, b"abc", b"\xff\xfe", "folder"])
def test_a_checkpoint_with_a_lost_digest_is_not_damaged(tmp_path, lost):
    path = save(tmp_path, 8)
    checkpoints.digest_path(path).unlink()
    if lost == "folder":
        checkpoints.digest_path(path).mkdir()
    elif lost is not None:
        checkpoints.digest_path(path).write_bytes(lost)
    assert checkpoints.newest_intact(tmp_path) == (path, [])
    assert torch.equal(checkpoints.load_checkpoint(path)["weights"], torch.arange(1000) + 8)


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("harm", ["cut", "altered", "emptied", "zeros", "in its end", "no archive"])
def test_a_damaged_checkpoint_is_found_out_with_and_without_a_digest(tmp_path, harm, lost):
    older, newer = save(tmp_path, 7), save(tmp_path, 8)
    content = newer.read_bytes()
    middle = content.index((torch.arange(1000) + 8).numpy().tobytes()) + 4000
    damaged = {
        "cut": content[:-100],
        "altered": content[:middle] + b"!" + content[middle + 1 :],
        "emptied": b"",
        "zeros": bytes(len(content)),
        "in its end": content[:-40] + bytes(40),
        "no archive": b"word",
    }
    newer.write_bytes(damaged[harm])
    if lost:
        checkpoints.digest_path(newer).unlink()
    found, sentences = checkpoints.newest_intact(tmp_path)
    assert found == older
    assert len(sentences) == 1 and sentences[0].startswith("step-00000008.ckpt is truncated or altered")
    with pytest.raises(RunError, match=r"step-00000008.* is truncated or altered"):
        checkpoints.load_checkpoint(newer)


@pytest.mark.parametrize("harm", ["truncate", "alter"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken(tmp_path, harm):
    older, newer = save(tmp_path, 7), save(tmp_path, 8)
    content = newer.read_bytes()
    if harm == "truncate":
        newer.write_bytes(content[:-100])
    else:
        newer.write_bytes(content[:500] + b"!" + content[501:])
    with pytest.raises(RunError, match="step-00000008"):
        checkpoints.load_checkpoint(newer)
    found, damaged = checkpoints.newest_intact(tmp_path)
    assert found == older
    assert len(damaged) == 1 and damaged[0].startswith("step-00000008.ckpt")


def test_a_checkpoint_cannot_run_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return print, ("code ran",)

    path = tmp_path / "step-00000001.ckpt"
    checkpoints.save_checkpoint({"trap": Trap()}, path)
    with pytest.raises(
        RunError, match=r"it holds more than numbers, text and tensors .*print.* run any code"
    ) as caught:
        checkpoints.load_checkpoint(path)
    assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)


@pytest.mark.parametrize("content", [[1, 2], 7, {"state_dict": 3}, {"weights": 1}])
def test_a_file_that_is_no_checkpoint_is_refused_in_a_sentence(tmp_path, content):
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    with pytest.raises(RunError, match="holds no weights of a module"):
        checkpoints.evaluation_weights(checkpoints.load_checkpoint(path))


def test_a_plain_pickle_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "other.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": {}}))
    with pytest.raises(RunError, match=r"other\.ckpt is truncated or altered"):
        checkpoints.load_checkpoint(path)


def test_a_pipe_in_the_place_of_a_checkpoint_is_not_waited_for(tmp_path):
    whole = save(tmp_path, 1)
    os.mkfifo(tmp_path / "step-00000002.ckpt")
    newest, damaged = checkpoints.newest_intact(tmp_path)
    assert newest == whole and damaged == ["step-00000002.ckpt is no plain file"]


def test_pruning_keeps_the_newest_and_the_best(tmp_path):
    paths = [save(tmp_path, step) for step in range(5)]
    checkpoints.link_checkpoint(tmp_path, "best.ckpt", paths[1])
    checkpoints.prune_checkpoints(tmp_path, keep=2)
    assert checkpoints.list_checkpoints(tmp_path) == [paths[4], paths[3], paths[1]]
    assert not checkpoints.digest_path(paths[0]).exists()


def test_pruning_keeps_the_best_of_a_folder_that_a_link_leads_to(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    paths = [save(tmp_path / "link", step) for step in range(4)]
    checkpoints.link_checkpoint(tmp_path / "link", "best.ckpt", paths[1])
    checkpoints.prune_checkpoints(tmp_path / "link", keep=1, besides=(tmp_path / "real" / paths[0].name))
    assert checkpoints.list_checkpoints(tmp_path / "link") == [paths[3], paths[1], paths[0]]


def test_a_failed_write_leaves_the_old_checkpoint_and_nothing_else(tmp_path, monkeypatch):
    path = save(tmp_path, 3)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints._HashingFile, "write", full)
    with pytest.raises(Exception):  # noqa: B017, PT011  torch wraps it differently from version to version
        checkpoints.save_checkpoint({"weights": torch.zeros(10)}, path)
    assert checkpoints.find_damage(path) is None
    assert sorted(each.name for each in tmp_path.iterdir()) == [path.name, f"{path.name}.sha256"]


def test_evaluation_weights_are_the_average_if_there_is_one():
    assert checkpoints.evaluation_weights({"state_dict": {"w": 1}}) == {"w": 1}
    assert checkpoints.evaluation_weights({"state_dict": {"w": 1}, "evaluation_state_dict": {"w": 2}}) == {"w": 2}
