import subprocess
import sys
import threading

import pytest

from attest_web.process.daemon_threads import DaemonThreads
from tests.support.limits import limit


def test_daemon_threads_return_results_and_errors_of_calls() -> None:
    pool = DaemonThreads("test", 2)
    assert [pool.submit(divmod, number, 3).result(limit()) for number in range(5)] == [divmod(n, 3) for n in range(5)]
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 1, 0).result(limit())
    assert pool.submit(divmod, 1, 1).result(limit()) == (1, 0)
    pool.close()


def test_daemon_threads_at_the_maximum_queue_further_calls() -> None:
    pool, go = DaemonThreads("counted", 3), threading.Event()
    futures = [pool.submit(go.wait, limit()) for _ in range(10)]
    assert len([thread for thread in threading.enumerate() if thread.name == "counted"]) == 3
    go.set()
    assert all(future.result(limit()) for future in futures)
    pool.close()


def test_daemon_threads_reuse_an_idle_thread() -> None:
    pool = DaemonThreads("again", 10)
    for _ in range(50):
        pool.submit(lambda: None).result(limit())
    assert len([thread for thread in threading.enumerate() if thread.name == "again"]) <= 2
    pool.close()


def test_daemon_threads_closed_pool_refuses_calls_and_its_threads_end() -> None:
    pool = DaemonThreads("closing", 2)
    pool.submit(lambda: None).result(limit())
    [thread] = [thread for thread in threading.enumerate() if thread.name == "closing"]
    pool.close()
    thread.join(limit())
    assert not thread.is_alive()
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(lambda: None)


def test_daemon_threads_with_a_hung_call_do_not_delay_process_exit() -> None:
    program = (
        "import time\nfrom attest_web.process.daemon_threads import DaemonThreads\n"
        "pool = DaemonThreads('hanging', 1)\npool.submit(time.sleep, 3600)\npool.close()\n"
    )
    subprocess.run([sys.executable, "-c", program], timeout=limit(20), check=True)
