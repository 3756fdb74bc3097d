"""How a process ends: one message and one exit code for each kind of error."""

import errno
import logging
import traceback
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from pipeline.errors import DONE, FAILED, INTERRUPTED, PREEMPTED, USER_ERROR, TrainingFailed, UserError
from pipeline.system.streams import printable
from pipeline.training.distributed.collectives import PEER_ENDED
from pipeline.training.halving import is_out_of_memory
from pipeline.training.interruption import Interrupted

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
ONE_SAMPLE_MESSAGE = "Expected more than 1 value per channel when training"  # torch.nn.functional.batch_norm
FILE_SYSTEM_LOST = (errno.EIO, errno.ESTALE, errno.EROFS, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ETIMEDOUT)


def run_to_exit_code(work: Callable[[], None], folder: Path) -> int:
    """Run `work`, which writes to the run directory `folder`, and return the exit code.

    A traceback is printed only for an unexpected error.
    """
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        work()
    except Interrupted as interrupted:
        return INTERRUPTED if interrupted.by_user else PREEMPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except UserError as mistake:
        errors.print(f"[bold red]error:[/] {_escaped(mistake)}")
        return USER_ERROR
    except TrainingFailed as failure:
        errors.print(f"[bold red]failed:[/] {_escaped(failure)}")
        return FAILED
    except Exception as problem:  # noqa: BLE001  the last handler: an unexpected error is shown with its traceback
        logging.getLogger("pipeline").error("%s", traceback.format_exc())
        explanation = explain_failure(problem, folder)
        if explanation is None:
            errors.print(_escaped("".join(traceback.format_exception(problem))))
        else:
            errors.print(f"[bold red]failed:[/] {_escaped(explanation)}")
        return FAILED
    return DONE


def explain_failure(problem: Exception, folder: Path) -> str | None:
    """Explain a failure of the machine or of known limits; None for an error of some program."""
    if is_lost_peer(problem):
        return "the connection to another process of this run is lost"
    space = find_os_error(problem, DISK_FULL)
    if space is not None:
        return f"the disk is full ({space}); what was saved before stands"
    lost = find_os_error(problem, FILE_SYSTEM_LOST)
    if lost is None and not (folder / "config.yaml").exists():
        lost = find_os_error(problem, (errno.ENOENT,))
    if lost is not None:
        return (
            f"the file system of {folder} is lost ({lost}); what was saved before stands there. Once it is back: "
            f"pipeline resume run={folder}"
        )
    if isinstance(problem, ValueError) and str(problem).startswith(ONE_SAMPLE_MESSAGE):
        return (
            "batch norm was given one sample, but needs several for its variance: use a data.batch_size that leaves "
            "each process two or more, drop_last=True in a DataLoader of your own, whose last batch may be short, or a "
            f"network without batch norm\n  {problem}"
        )
    if is_out_of_memory(problem):
        return (
            f"out of memory: {str(problem).strip().splitlines()[0]}\n  use a smaller data.batch_size (with "
            "trainer.accumulate_grad_batches the optimiser sees as many samples), trainer.precision=bf16-mixed, or\n  "
            "batch.on_out_of_memory=halve, which may also be given to  pipeline resume"
        )
    return None


def is_lost_peer(problem: Exception) -> bool:
    """Return whether another process of the run has ended: its own log says why."""
    text = str(problem)
    by_gloo = "gloo" in text and any(word in text for word in ("closed by peer", "reset by peer", "Broken pipe"))
    by_torch = isinstance(problem, RuntimeError) and (by_gloo or ("NCCL" in text and "remote" in text))
    return by_torch or (isinstance(problem, ConnectionError) and text == PEER_ENDED)


def find_os_error(problem: BaseException | None, numbers: tuple[int, ...]) -> OSError | None:
    """Return the OSError with one of these numbers that caused the problem, however deep."""
    while problem is not None:
        if isinstance(problem, OSError) and problem.errno in numbers:
            return problem
        problem = problem.__cause__ or problem.__context__
    return None


def _escaped(text: object) -> str:
    return printable(str(text)).replace("[", r"\[")  # Rich would take brackets for markup
