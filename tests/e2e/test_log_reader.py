"""Logs that are not read: a full pipe stops nothing."""

import fcntl
import os
import socket
import subprocess
import time

import pytest

from tests.e2e.support.processes import BIN, MODEL, PROGRAMS, SCRIPT, TOKEN, clean_env
from tests.e2e.support.raw_client import RawClient, chat_body, chat_request
from tests.support.limits import Deadline, limit


def wait_until_it_listens(port: int) -> None:
    deadline = Deadline()
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=limit()).close()
            return
        except ConnectionRefusedError:
            assert deadline.left > 0
            time.sleep(0.05)  # its log, which would tell, is not read


@pytest.mark.parametrize("command", [*PROGRAMS, "tee-signer --workers 1"])
def test_full_log_pipe_blocks_neither_requests_nor_shutdown(
    fake_vllm: str, free_ports: list[int], command: str
) -> None:
    program, *more = command.split()
    port = free_ports[0]
    arguments = [str(BIN / program), *more, "--listen-host", "127.0.0.1"]
    if program == "mitmdump":
        arguments += ["-s", str(SCRIPT), "--mode", f"reverse:{fake_vllm}", "-p", str(port)]
    settings = {"MODEL_NAME": MODEL, "TOKEN": TOKEN, "DEV": "1", "ATTEST_PORT": str(free_ports[1])}
    settings |= {"VLLM_BASE_URL": fake_vllm, "LISTEN_PORT": str(port), "RATE_LIMIT_PER_SECOND": "0"}
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(arguments, env=clean_env(**settings), stdout=writer, stderr=writer)
    os.close(writer)
    try:
        wait_until_it_listens(port)
        for _ in range(60):
            with RawClient(port) as client:
                client.send(chat_request(chat_body()))
                assert client.read_response()[0] == 200
        process.terminate()
        assert process.wait(limit()) == 0, "nor does it stop the end"
    finally:
        process.kill()
        process.wait()
        os.close(reader)
