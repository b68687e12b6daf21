"""Keeps the keys of this process out of core dumps."""

import ctypes
import logging
import resource

logger = logging.getLogger(__name__)

_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """Forbid core dumps of this process and, to other users, looking into its memory (prctl(2), PR_SET_DUMPABLE).

    The resource limit alone would not do: it does not hold where core dumps are piped to a program (core(5)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        failed = ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    except AttributeError:  # not Linux
        failed = 1
    if failed:
        logger.warning("core dumps are limited to nothing, but could not be forbidden altogether")
