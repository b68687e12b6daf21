"""A copy of the checkout with a virtual environment of its own, so that what is tested is the copy."""

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ENVIRONMENTS = (".venv", ".venv-gpu")


@contextmanager
def copy_of(checkout: Path) -> Iterator[Path]:
    """A temporary copy of the files that git has or does not ignore, as they stand, for as long as the context lasts.

    Args:
        checkout: The original, which is only read.
    """
    with tempfile.TemporaryDirectory(prefix="mutate-", ignore_cleanup_errors=True) as directory:
        copy = Path(directory).resolve() / checkout.name
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=checkout,
            stdout=subprocess.PIPE,
            check=True,
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            # git lists what is deleted and still in its index, and links to environments, which are no directories.
            if (checkout / name).exists() and Path(name).parts[0] not in _ENVIRONMENTS:
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(checkout / name, copy / name, follow_symlinks=False)
        _make_environment(copy)
        gpu_environment = checkout / ".venv-gpu"
        if gpu_environment.exists():
            (copy / ".venv-gpu").symlink_to(gpu_environment.resolve())
        yield copy


def python_of(copy: Path) -> Path:
    """The Python of a copy's environment."""
    return copy / ".venv/bin/python"


def _make_environment(copy: Path) -> None:
    """Make `.venv` in the copy: this environment's packages, but the project from the copy.

    The project is installed editable, by a path in a .pth file. Python reads such files in the environment's own
    directory of packages alone, not in this environment's, which is put on the path behind the copy.
    """
    own, packages = Path(sys.prefix), Path(sysconfig.get_path("purelib"))
    made = copy / ".venv"
    (made / "bin").mkdir(parents=True)
    shutil.copy2(own / "pyvenv.cfg", made / "pyvenv.cfg")
    for program in (own / "bin").iterdir():
        target = made / "bin" / program.name
        if program.is_symlink():
            target.symlink_to(program.readlink())
        elif program.is_file():
            shutil.copy2(program, target)
            content = program.read_bytes()
            if content.startswith(b"#!"):
                target.write_bytes(content.replace(bytes(own), bytes(made)))
    directory = made / packages.relative_to(own)
    directory.mkdir(parents=True)
    (directory / "checkout.pth").write_text(f"{copy}\n{packages}\n")
