"""How a lack of memory is known."""

import torch


def is_out_of_memory(problem: BaseException) -> bool:
    """Of a GPU or of the host."""
    text = str(problem)
    on_the_host = "can't allocate memory" in text or "not enough memory" in text
    in_a_library = "ALLOC_FAILED" in text  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED
    return isinstance(problem, torch.OutOfMemoryError | MemoryError) or (
        isinstance(problem, RuntimeError) and (on_the_host or in_a_library)
    )
