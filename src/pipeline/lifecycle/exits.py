"""How a process of ours ends: one message and one exit code for each kind of end."""

import errno
import logging
import traceback
from collections.abc import Callable

from rich.console import Console

from pipeline.errors import DONE, FAILED, INTERRUPTED, PREEMPTED, USER_ERROR, TrainingFailed, UserError
from pipeline.training.interruption import Interrupted

OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)


def code_of(work: Callable[[], None]) -> int:
    """Run `work`; its exit code. A traceback is printed only for what nobody foresaw."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        work()
    except Interrupted as interrupted:
        return INTERRUPTED if interrupted.by_user else PREEMPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except UserError as mistake:
        errors.print(f"[bold red]error:[/] {_plain(mistake)}")
        return USER_ERROR
    except TrainingFailed as failure:
        errors.print(f"[bold red]failed:[/] {_plain(failure)}")
        return FAILED
    except Exception as problem:  # noqa: BLE001  the last place: what nobody foresaw is shown whole
        logging.getLogger("pipeline").error("%s", traceback.format_exc())
        space = out_of_space(problem)
        if is_lost_peer(problem):
            errors.print("[bold red]failed:[/] the connection to another process of this run is lost")
        elif space is not None:
            errors.print(f"[bold red]failed:[/] the disk is full ({_plain(space)}); what was saved before stands")
        else:
            errors.print(_plain("".join(traceback.format_exception(problem))))
        return FAILED
    return DONE


def is_lost_peer(problem: Exception) -> bool:
    """One of the other processes is gone: what happened is for its own log to tell."""
    text = str(problem)
    by_gloo = "gloo" in text and any(word in text for word in ("closed by peer", "reset by peer", "Broken pipe"))
    return isinstance(problem, RuntimeError) and (by_gloo or ("NCCL" in text and "remote" in text))


def out_of_space(problem: BaseException | None) -> OSError | None:
    """The full disk behind an error, however deep."""
    while problem is not None:
        if isinstance(problem, OSError) and problem.errno in OUT_OF_SPACE:
            return problem
        problem = problem.__cause__ or problem.__context__
    return None


def _plain(text: object) -> str:
    return str(text).replace("[", r"\[")  # Rich would take brackets for markup
