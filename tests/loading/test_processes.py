"""Reader processes: the same rows as threads give, and none is left behind, whatever happens.

Each pool takes a second or two to start, so one case stands for each mechanism.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from millrace.config.training import LoadingConfig
from millrace.errors import ContractError, LakeError
from millrace.loading.columns import ColumnSpec
from millrace.loading.opening import open_index
from millrace.loading.pool import Readers

ONE = LoadingConfig(pool="processes", num_readers=1)
TWO = LoadingConfig(pool="processes", num_readers=2)
NUMBER = ColumnSpec(name="number", dtype="int64")
ROW_ID = ColumnSpec(name="row_id", dtype="string")
TOKENS = ColumnSpec(name="tokens", dtype="int32", length_buckets=(8,))


def readers_of(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children() if "exec_in_new_process" in " ".join(child.cmdline())]


def own_readers() -> list[psutil.Process]:
    return readers_of(psutil.Process())


def sockets() -> list[str]:
    paths = [connection.laddr for connection in psutil.Process().net_connections("unix") if "/millrace-" in connection.laddr]
    return sorted({str(Path(path).parent) for path in paths})


def test_rows_of_processes(numbered_files):
    """All kinds of columns, many row groups; when nobody holds the readers any more, no process and no socket stays."""
    index = open_index(numbered_files([3, 4] * 20, [5]), partitions={})
    order = list(range(len(index.row_groups)))[::-1]
    with Readers([NUMBER, ROW_ID, TOKENS], num_threads=1, loading=TWO).in_order(index, order) as groups:
        found = list(groups)
    assert [number for number, _ in found] == order
    rows = [row for _, values in found[::-1] for row in values["number"].tolist()]
    assert rows == list(range(145))
    assert [row_id for _, values in found[::-1] for row_id in values["row_id"].tolist()] == [f"row-{row}" for row in rows]
    tokens = [token for _, values in found[::-1] for token in values["tokens"].values.tolist()]
    assert tokens == [row for row in rows for _ in range(row % 7)]
    assert own_readers() == []


def test_processes_are_kept_until_nobody_needs_them(numbered_files):
    """An epoch that is left early does not leak into the next; two at the same time have processes of their own."""
    index = open_index(numbered_files([2] * 40), partitions={})
    readers = Readers([NUMBER], num_threads=1, loading=ONE)
    with readers.in_order(index, range(40)) as groups:
        next(groups)
        first = own_readers()
    with readers.in_order(index, range(39, -1, -1)) as groups:
        assert own_readers() == first
        with readers.in_order(index, [7]) as others:
            assert [values["number"].tolist() for _, values in others] == [[14, 15]]
            assert len(own_readers()) == 2
        assert [number for number, _ in groups] == list(range(39, -1, -1))
    (left,) = own_readers()
    left.kill()
    left.wait()
    with readers.in_order(index, [3]) as groups:
        assert [values["number"].tolist() for _, values in groups] == [[6, 7]]
    readers.close()
    assert own_readers() == []


def test_left_early_in_a_thread_of_its_own(numbered_files):
    """tf.data reads in threads that come and go; the readers live as long as the epoch, not as the thread that started them."""
    index = open_index(numbered_files([2] * 50), partitions={})
    entered = []
    context = Readers([NUMBER], num_threads=1, loading=ONE).in_order(index, range(50))
    thread = threading.Thread(target=lambda: entered.append(context.__enter__()))
    thread.start()
    thread.join()
    assert next(entered[0])[1]["number"].tolist() == [0, 1]
    directories = sockets()
    assert len(directories) == 1
    assert [len(own_readers()), oct(Path(directories[0]).stat().st_mode)[-3:]] == [1, "700"]
    context.__exit__(None, None, None)
    assert own_readers() == []
    assert not Path(directories[0]).exists()


def test_error_of_a_reader_arrives_as_itself_once_and_quietly(numbered_files, capfd):
    index = open_index(numbered_files([2] * 10), partitions={})
    missing = ColumnSpec(name="label", dtype="int32")
    with (
        pytest.raises(ContractError) as caught,
        Readers([missing], num_threads=1, loading=ONE).in_order(index, range(10)) as groups,
    ):
        list(groups)
    assert caught.value.expected == "the columns label"
    assert capfd.readouterr() == ("", "")


def test_reader_that_is_killed_ends_the_epoch(numbered_files):
    index = open_index(numbered_files([2] * 400), partitions={})
    with (
        pytest.raises(LakeError) as caught,
        Readers([NUMBER], num_threads=1, loading=TWO).in_order(index, range(400)) as groups,
    ):
        next(groups)
        victim = own_readers()[0]
        victim.suspend()  # so that it surely holds a row group when it is killed
        kill = threading.Timer(1.0, victim.kill)
        kill.start()
        list(groups)
    assert str(caught.value) == (
        f"load: expected every reader process to live as long as the epoch; found reader {victim.pid} ended with signal 9. "
        "Look for a lack of memory on its machine, and start the run again."
    )
    assert caught.value.retry
    assert own_readers() == []


def test_readers_end_when_their_parent_is_killed(numbered_files):
    """The parent is not waited for, so that it stays a zombie: its number still exists, and the readers end all the same."""
    program = (
        "import sys, time\n"
        "from millrace.config.training import LoadingConfig\n"
        "from millrace.loading import ColumnSpec, Options, dataset\n"
        "data = dataset(sys.argv[1], columns=['number'], batch_size=8, options=Options(pool='processes', num_readers=1))\n"
        "stream = iter(data)\n"
        "next(stream)\n"
        "print('reading', flush=True)\n"
        "time.sleep(600)\n"
    )
    uri = numbered_files([2] * 400)
    with subprocess.Popen([sys.executable, "-c", program, uri], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "reading\n"
        readers = readers_of(psutil.Process(parent.pid))
        assert len(readers) == 1
        os.kill(parent.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(readers, timeout=20)
        assert alive == []


def test_reader_that_hangs_does_not_hold_the_end_up(numbered_files):
    index = open_index(numbered_files([2] * 400), partitions={})
    with Readers([NUMBER], num_threads=1, loading=ONE).in_order(index, range(400)) as groups:
        next(groups)
        own_readers()[0].suspend()
        began = time.monotonic()
    assert own_readers() == []
    assert time.monotonic() - began < 30
