"""How many connections the system lets this process have: each is an open file."""

import resource


def allow_open_files(wanted: int) -> int:
    """Raise this process's limit of open files to as many as are wanted and may be had; return what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
