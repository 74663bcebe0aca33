"""One thread for each call into native code: conversations share the cores, and no call may take more than one."""

from __future__ import annotations

from threadpoolctl import threadpool_limits


def limit_blas_to_one_thread() -> None:
    """Keep numpy's matrix products on their caller's thread, in the whole process, from now on.

    ONNX Runtime and CTranslate2 take their number of threads as an option of each model. Numpy's OpenBLAS takes it
    when it is loaded, from an environment that a server cannot set for itself, or, as here, by a call. Left alone it
    starts a thread for each core, and after a product of some size those threads spin for about 0.1 s, on the cores
    that the other models need.
    """
    threadpool_limits(1, user_api="blas")
