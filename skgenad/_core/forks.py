"""Forked processes: threads do not come along, but OpenMP's pools wait for theirs for ever.

A process that has computed with several threads, and one forked from it, see the same pool; in the
child nobody is in it. GNU's OpenMP, which torch and scikit-learn are built with on Linux, does not
notice, and the child hangs in its first parallel region. So a forked process computes with one
thread, as the workers of torch's DataLoader do; scores are the same bits with any number.
"""

from __future__ import annotations

import os
import threading
from functools import cache

import torch
from threadpoolctl import threadpool_limits

# The process that the package was imported in.
_HOME = os.getpid()


def leave_parents_threads() -> None:
    """Compute with one thread from now on if this process was forked after the import.

    Pools belong to threads: other threads than the one that was forked make pools of their own.
    """
    here = os.getpid()
    if here != _HOME and threading.current_thread() is threading.main_thread():
        _limit_to_one_thread(here)


@cache
def _limit_to_one_thread(process: int) -> None:
    # Once for each process: who sets another number afterwards knows better.
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="openmp")
