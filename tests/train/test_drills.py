"""`train.py` as people run it: killed, terminated, interrupted, and on two hosts."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from runs import assert_same_state, last_state, lines

from jaxvision import config as configs
from jaxvision.train.init import load_variables
from jaxvision.train.loop import Run

TESTS = pathlib.Path(__file__).parents[1]
STEPS, EVERY = 120, 10
HOST_STEPS = 100


def start(workdir, *arguments, devices=1):
    """`train.py` on a tiny FCN, in a process group of its own, as a terminal would make it."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    command = [sys.executable, "train.py", f"--config={TESTS / 'tiny.py'}:fcn8s", f"--workdir={workdir}", *arguments]
    return subprocess.Popen(
        command,
        cwd=TESTS.parent,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process):
    """(exit status, what it said)."""
    try:
        output, _ = process.communicate(timeout=300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output


def wait_for_step(process, workdir, step):
    """Until the process itself, not one before it, has written that step to metrics.jsonl."""
    began, deadline = time.time(), time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, ValueError):  # there is no file yet, or half a line
            if any(line["step"] >= step and line["time"] > began for line in lines(workdir)):
                return
        time.sleep(0.002)
    pytest.fail(f"step {step} never came: {finish(process)[1]}")


def group(process):
    """The processes of its group that still run."""
    alive = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, number = entry.read_text().rpartition(")")[2].split()[:3]
            if int(number) == process.pid and state != "Z":
                alive.append(int(entry.parent.name))
    return alive


def arguments(scenes_dir):
    return (
        f"--config.data.dir={scenes_dir}",
        f"--config.steps={STEPS}",
        f"--config.checkpoint.every={EVERY}",
        "--config.data.workers=1",
    )


@pytest.fixture(scope="module")
def uninterrupted(scenes_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    status, output = finish(start(workdir, *arguments(scenes_dir)))
    assert status == 0, output
    return workdir


def test_a_run_that_is_ended_in_every_way_ends_where_an_uninterrupted_one_does(uninterrupted, scenes_dir, tmp_path):
    command = (tmp_path / "run", *arguments(scenes_dir))

    process = start(*command)
    wait_for_step(process, command[0], 25)
    process.kill()
    status, output = finish(process)
    assert status == -signal.SIGKILL
    step, _ = last_state(command[0])
    assert step % EVERY == 0 and step < STEPS, output
    deadline = time.monotonic() + 30
    while group(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not group(process), "worker processes outlive the run"

    ways = [  # the workers hear of it as well
        (os.killpg, signal.SIGTERM, 143),  # as a cluster tells every process of a job
        (os.killpg, signal.SIGINT, 130),  # as Ctrl-C does
    ]
    for tell, number, wanted in ways:
        process = start(*command)
        wait_for_step(process, command[0], step + 15)
        tell(process.pid, number)
        status, output = finish(process)
        assert status == wanted, output
        assert f"going on from step {step}" in output
        step, _ = last_state(command[0])
        assert step < STEPS
        assert f"{number.name}: saved step {step} in {command[0]}; the same command goes on from there" in output
        assert "Traceback" not in output

    status, output = finish(start(*command))
    assert status == 0 and f"going on from step {step}" in output
    assert_same_state(command[0], uninterrupted)
    assert [line["step"] for line in lines(command[0])] == list(range(1, STEPS + 1))
    assert [line["loss"] for line in lines(command[0])] == [line["loss"] for line in lines(uninterrupted)]
    scores = [json.loads((run / "evaluation.json").read_text()) for run in (command[0], uninterrupted)]
    assert scores[0] == scores[1]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_two_processes_are_one(scenes_dir, tmp_path):
    """Two hosts of one device each, ended and started again, and one of two: the same parameters, scores and files."""
    common = (f"--config.data.dir={scenes_dir}", f"--config.steps={HOST_STEPS}", "--config.evaluate.every=25")
    common += ("--config.batch_size=8", "--config.data.validation=validation[:14]")  # the last batch is not full

    def start_two():
        hosts = (f"--coordinator=127.0.0.1:{free_port()}", "--processes=2")
        return [start(tmp_path / "two", *common, *hosts, f"--process={i}") for i in (0, 1)]

    two = start_two()
    wait_for_step(two[0], tmp_path / "two", 3)
    os.kill(two[1].pid, signal.SIGTERM)  # one is told, both stop
    ended = [finish(process) for process in two]
    assert [status for status, _ in ended] == [143, 143], ended
    step, _ = last_state(tmp_path / "two")
    assert step < HOST_STEPS and f"SIGTERM: saved step {step}" in ended[0][1]

    ended = [finish(start(tmp_path / "one", *common, devices=2))]
    ended += [finish(process) for process in start_two()]
    assert [status for status, _ in ended] == [0, 0, 0], "\n".join(output for _, output in ended)
    assert "devices: 2 (cpu), 2 process(es)" in ended[1][1] and "steps:" not in ended[2][1]
    assert_same_state(tmp_path / "two", tmp_path / "one", 1e-6)
    scores = [json.loads((tmp_path / name / "evaluation.json").read_text())["validation"] for name in ("one", "two")]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6) and len(scores[0]) > 3
    files = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("one", "two")]
    assert files[0] == files[1]
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 2  # one for each start
    assert [line["step"] for line in lines(tmp_path / "two")] == list(range(1, HOST_STEPS + 1))

    # One device takes over what two hosts left.
    _, state = last_state(tmp_path / "two")
    jax.tree.map(np.testing.assert_array_equal, load_variables(str(tmp_path / "two"))["params"], state["params"])
    run = Run(configs.loads((tmp_path / "two" / "config.json").read_text()), str(tmp_path / "two"))
    assert run.step == HOST_STEPS
    jax.tree.map(np.testing.assert_array_equal, run.state.params, state["params"])


def test_an_error_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    process = start(tmp_path / "file" / "run", f"--config.data.dir={tmp_path}")
    status, output = finish(process)
    assert status == 1
    assert "Traceback" not in output
    assert output.strip().splitlines()[-1].startswith("PermissionError: The workdir")
