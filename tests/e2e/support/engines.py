"""Real inference servers with a tiny random model, each in an environment that scripts/test-engine makes."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.support.processes import Process, clean_env
from tests.support.limits import limit

VARIABLE = "TEE_SIGNER_TEST_ENGINE"
"""Environment variable with the directories of such environments, separated by colons."""

HERE = Path(__file__).parent


def environments() -> list[Path]:
    """The environments that the variable names."""
    return [Path(name) for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]


@dataclass(frozen=True)
class Engine:
    """A running inference server.

    Attributes:
        name: `transformers` or `llama-cpp`.
        url: Where it listens.
        model: What it calls its model.
    """

    name: str
    url: str
    model: str


@contextmanager
def running_engine(environment: Path, directory: Path, port: int) -> Iterator[Engine]:
    """The server of an environment, for as long as the context lasts.

    Args:
        environment: A Python environment.
        directory: Where its model is made.
        port: A free port.
    """
    python = environment / "bin" / "python"
    address = ["--host", "127.0.0.1", "--port", str(port)]
    if (environment / "bin" / "transformers").exists():
        name, model, maker = "transformers", directory / "tiny", "tiny_transformers_model.py"
        command: list[str | Path] = [environment / "bin" / "transformers", "serve", *address, "--device", "cpu"]
    else:
        name, model, maker = "llama-cpp", directory / "tiny.gguf", "tiny_gguf_model.py"
        command = [python, "-m", "llama_cpp.server", *address, "--model", model, "--n_ctx", "512"]
    env = clean_env(HF_HUB_OFFLINE="1", HOME=str(directory))
    subprocess.run([python, HERE / maker, model], env=env, timeout=limit(120), check=True, capture_output=True)
    process = Process(command, env)
    try:
        process.wait_for("Uvicorn running on", timeout=120)
        yield Engine(name, f"http://127.0.0.1:{port}", str(model))
    finally:
        process.stop()
