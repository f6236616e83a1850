"""One run in several processes: joining them, agreeing, and ending together.

Each host of a cluster runs the same command. JAX connects the processes, and their devices form one
mesh. The first process alone writes files and shows progress; each writes its part of a checkpoint.
"""

import atexit
import contextlib
import itertools
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import jax
import numpy as np
from jax._src import distributed
from jax._src.clusters import ClusterEnv
from jax.experimental import multihost_utils

from hfjax.errors import InputError, TrainingFailed, one_line

# After so long without a sign of life a process counts as dead: for this module, whose sentence
# comes first, and for JAX, which then aborts.
SILENT_S, HEARTBEAT_S = 25, 45
GOODBYE_S = 2.0  # for the others to read why this process ends
_REASON = "hfjax/reasons"  # where a process leaves why it ends, for the others
_ALIVE = "hfjax/alive"  # where each counts its seconds, until it is done
_DONE = "done"
# Errors of a collective whose other side is gone, as Gloo, NCCL and JAX's own runtime word them.
_LOST = re.compile("gloo|nccl|connection|socket|unavailable|heartbeat|coordination", re.IGNORECASE)
_ending = threading.Lock()


def join(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Connect this process with the others of its run, before any other use of JAX.

    Without arguments JAX detects SLURM, Open MPI, TPU pods, and indexed Jobs of Kubernetes; a
    process that is alone stays so. num_processes=1 keeps a process alone anywhere.

    Raises InputError where an argument is missing or wrong, or the others do not answer.
    """
    given = {
        "coordinator": coordinator,
        "num_processes": num_processes,
        "process_id": process_id,
    }
    if num_processes == 1 or (not _are_any(given) and not is_cluster_of_several()):
        return
    if coordinator is not None and not re.fullmatch(r".+:\d+", coordinator):
        raise InputError(f"--coordinator must be HOST:PORT, but is {coordinator}.")
    if missing := [name for name, value in given.items() if value is None and _are_any(given)]:
        raise InputError(
            f"--{missing[0]} is missing: --coordinator, --num_processes and --process_id go "
            "together."
        )
    if process_id is not None and not 0 <= process_id < (num_processes or 1):
        raise InputError(
            f"--process_id must be from 0 to --num_processes - 1, but is {process_id} of "
            f"{num_processes}."
        )
    try:
        jax.distributed.initialize(
            coordinator, num_processes, process_id, heartbeat_timeout_seconds=HEARTBEAT_S
        )
    except Exception as error:  # of the cluster's own interface too
        raise InputError(f"the processes cannot be joined ({one_line(error)}).") from error
    complete = threading.Event()
    watcher = threading.Thread(target=_watch, args=(complete,), daemon=True)
    watcher.start()

    def leave() -> None:
        complete.set()
        watcher.join()
        with contextlib.suppress(Exception):  # the first process is gone
            _sign(_DONE)

    atexit.register(leave)


def _are_any(given: dict[str, Any]) -> bool:
    return any(value is not None for value in given.values())


def is_cluster_of_several() -> bool:
    """Whether JAX detects a cluster, and several processes in it.

    Steps of one SLURM job share a port, and a process that SLURM starts sees one GPU once it has
    joined: both would hurt a process that is alone. A pod that is no indexed Job is alone too.
    """
    if "KUBERNETES_SERVICE_HOST" in os.environ and "JOB_COMPLETION_INDEX" not in os.environ:
        return False
    try:
        known = (c for c in ClusterEnv._cluster_types if not c.opt_in_only_method)
        cluster = next((c for c in known if c.is_env_present()), None)
        return cluster is not None and cluster.get_process_count() > 1
    except Exception as error:
        raise InputError(
            f"the processes of this cluster cannot be counted ({one_line(error)}); give "
            "--coordinator, --num_processes and --process_id, or --num_processes=1."
        ) from error


def are_several() -> bool:
    """Whether this process has been joined with others."""
    return bool(jax.distributed.is_initialized()) and jax.process_count() > 1


def is_first() -> bool:
    """Whether this is the process that writes and speaks."""
    return jax.process_index() == 0


# --- Agreeing ---


def agreed(value: int) -> int:
    """The value of the first process, in all of them."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def largest(value: int) -> int:
    """The largest value of any process, in all of them; what a single process gives it."""
    if jax.process_count() == 1:
        return value
    return int(np.max(multihost_utils.process_allgather(np.int32(value))))


def check_same(what: str, content: int) -> None:
    """Raise InputError in every process where `content`, a number of 32 bits, is not the same."""
    if jax.process_count() == 1:
        return
    contents = np.ravel(multihost_utils.process_allgather(np.uint32(content)))
    if other := [i for i, value in enumerate(contents) if value != contents[0]]:
        raise InputError(f"process {other[0]} has another {what} than process 0.")


# --- Ending ---


@contextlib.contextmanager
def lost_peers() -> Iterator[None]:
    """Raise TrainingFailed, in one sentence, where a collective fails: a process has ended."""
    try:
        yield
    except (InputError, TrainingFailed):
        raise
    except Exception as error:
        check_lost(error)
        raise


def check_lost(error: Exception) -> None:
    """Raise TrainingFailed where an error says that another process has ended."""
    if jax.process_count() > 1 and _LOST.search(str(error)):
        time.sleep(GOODBYE_S)  # the thread below ends this process where there is a reason
        raise TrainingFailed(lost(one_line(error)[:200])) from error


def lost(reason: str) -> str:
    """The sentence about a process that has ended."""
    return (
        f"another process of this run has ended ({reason}); give the same command again to go on "
        "from the newest checkpoint."
    )


def end_all(code: int, sentence: str) -> NoReturn:
    """End all processes with an exit code; each says the sentence on stderr.

    An ordinary exit would wait minutes for the others, which wait for this one.
    """
    with _ending:
        sys.stderr.write(f"hfjax: {sentence}\n")
        sys.stderr.flush()
        sys.stdout.flush()
        reason = f"{code} process {jax.process_index()}: {sentence}"
        with contextlib.suppress(Exception):  # another process was faster, or the first is gone
            _client().key_value_set(f"{_REASON}/{jax.process_index()}", reason)
            time.sleep(GOODBYE_S)
        os._exit(code)


def _watch(complete: threading.Event) -> None:
    """End this process once another one says why it ends, or gives no sign of life any more."""
    signs: dict[str, tuple[str, int]] = {}  # of each process the last one, and when it was new
    for second in itertools.count():
        if complete.wait(1.0):
            return
        try:
            _sign(str(second))
            newest = dict(_client().key_value_dir_get(_ALIVE))
            reasons = _client().key_value_dir_get(_REASON)
        except Exception:  # the first process is gone: JAX says so and aborts
            return
        for name, sign in newest.items():
            if name not in signs or signs[name][0] != sign:
                signs[name] = sign, second
        silent = [n for n, (sign, at) in signs.items() if sign != _DONE and second - at > SILENT_S]
        if silent and not reasons:
            end_all(1, lost(f"process {silent[0].rpartition('/')[2]} gives no sign of life"))
        if reasons:
            with _ending:
                code, _, sentence = reasons[0][1].partition(" ")
                sys.stderr.write(f"hfjax: {sentence}\n")
                sys.stderr.flush()
                os._exit(int(code))


def _sign(sign: str) -> None:
    name = f"{_ALIVE}/{jax.process_index()}"
    _client().key_value_set(name, sign, allow_overwrite=True)


def _client() -> Any:
    return distributed.global_state.client
