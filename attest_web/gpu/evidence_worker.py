"""Collects GPU evidence with NVIDIA's library, in an environment and a process of its own.

`attest_web.gpu.evidence` runs this file, as a program, with the Python of that environment (3.10 to 3.12), whose
packages cannot live beside the proxy's. First it reports whether it can work, then it answers requests in order, all in
JSON lines:

    {"ready": true}
    {"ready": false, "error": "..."}

    {"id": 1, "nonce": "<64 hex digits>"}
    {"id": 1, "evidence": [{"certificate": "<base64>", "evidence": "<base64>", "arch": "HOPPER"}, ...]}
    {"id": 1, "error": "..."}

It ends when its standard input does, even in the middle of a request.
"""

import argparse
import importlib
import json
import logging
import os
import queue
import sys
import tempfile
import threading
from typing import Any, BinaryIO

DRIVER_TIMEOUT = 20
"""Seconds that the library waits for a call to the driver: fewer than the proxy waits, so that the error names it."""


def main() -> None:
    """Answer requests until the standard input ends."""
    parser = argparse.ArgumentParser(description="Collect GPU evidence: JSON lines in, JSON lines out.")
    parser.add_argument("--no-hw-mode", action="store_true", help="NVIDIA's canned evidence; no GPU is asked")
    options = parser.parse_args()
    requests, answers = _take_standard_streams()
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def answer_all() -> None:
        try:
            try:
                cc_admin = _import_library()
            except Exception as error:
                _write(answers, {"ready": False, "error": _one_line(error)})
                os._exit(0)
            _write(answers, {"ready": True})
            while True:
                _write(answers, _answer(waiting.get(), cc_admin, options.no_hw_mode))
        finally:
            os._exit(1)  # no response can be made, or none is read any more

    threading.Thread(target=answer_all, daemon=True).start()
    for line in requests:
        waiting.put(line)
    # The proxy has gone. The thread may be in an import or in a driver that hangs, and must not keep the
    # process alive.
    os._exit(0)


def _take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for the protocol only.

    The library prints, and so may the C code and the programs that it calls: for all of them, standard output becomes
    standard error, and standard input is empty. The descriptors given back are not inherited by programs.
    """
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return requests, answers


def _import_library() -> Any:
    # On import it deletes and opens verifier.log in the working directory, and would keep writing there.
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        cc_admin = importlib.import_module("verifier.cc_admin")
        os.chdir("/")
    logging.getLogger("gpu-verifier-event").handlers.clear()
    cc_admin.BaseSettings.MAX_NVML_TIME_DELAY = DRIVER_TIMEOUT
    return cc_admin


def _ask_driver() -> None:
    """Raise the driver's own error where there is no driver, or none for confidential computing.

    The library loses the driver's errors, waits until its time is up, and says that the driver did not answer.
    """
    nvml: Any = importlib.import_module("pynvml")
    nvml.nvmlInit()
    nvml.nvmlSystemGetConfComputeState()
    nvml.nvmlShutdown()


def _answer(line: bytes, cc_admin: Any, no_hw_mode: bool) -> dict[str, Any]:
    request_id = None
    try:
        request = json.loads(line)
        request_id = request["id"]
        if not no_hw_mode:
            _ask_driver()
        # ppcie_mode=True would refuse machines whose GPUs are attested together, with their switches (Protected PCIe).
        evidence = cc_admin.collect_gpu_evidence_remote(request["nonce"], no_gpu_mode=no_hw_mode, ppcie_mode=False)
        fields = [(each["certificate"], each["evidence"], each.get("arch") or "HOPPER") for each in evidence]
        return {
            "id": request_id,
            "evidence": [{"certificate": chain, "evidence": report, "arch": arch} for chain, report, arch in fields],
        }
    except Exception as error:
        return {"id": request_id, "error": _one_line(error)}


def _one_line(error: BaseException) -> str:
    """What went wrong and, since the library wraps its exceptions, why."""
    reasons: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(reasons) < 5:
        reasons.append(" ".join(str(cause).split()) or type(cause).__name__)
        cause = cause.__cause__
    return ": ".join(reasons)[:500]


def _write(answers: BinaryIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    main()
