"""Keeps the keys of this process out of core dumps."""

import ctypes
import logging
import resource

logger = logging.getLogger(__name__)

_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """Disable core dumps of this process, and access to its memory for other users (prctl(2), PR_SET_DUMPABLE).

    The resource limit alone is not enough: it does not apply where core dumps are piped to a program (core(5)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        failed = ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    except AttributeError:  # not Linux
        failed = 1
    if failed:
        logger.warning("core dumps are limited to nothing, but could not be forbidden altogether")
