"""The job scripts of experiments/cluster: as far as they can be checked without a cluster."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from hfjax.__main__ import HOW_TO_RUN, WHAT_TO_RUN

CLUSTER = pathlib.Path(__file__).parent.parent / "experiments" / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))
NAMES = [path.name for path in SCRIPTS]


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_shellcheck_finds_nothing(script):
    beside = pathlib.Path(sys.executable).with_name("shellcheck")
    program = beside if beside.exists() else shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([program, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [*SCRIPTS, CLUSTER / "jobset.yaml"], ids=[*NAMES, "jobset.yaml"])
def test_every_flag_exists(path):
    line = r"(?:-m hfjax (?:\\\n|[^\n])*)|(?:^ +- --\w+=.*$)"
    commands = " ".join(re.findall(line, path.read_text(), re.MULTILINE))
    used = set(re.findall(r"--(\w+)=", commands))
    assert {"fdl_config", "workdir"} <= used
    assert used <= {*WHAT_TO_RUN, *HOW_TO_RUN}


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s.name.startswith("slurm")])
@pytest.mark.parametrize(("code", "requeued"), [(0, False), (1, False), (2, False), (75, True)])
def test_a_slurm_job_is_requeued_only_when_it_was_stopped(tmp_path, script, code, requeued):
    programs = {
        "srun": f'echo "$SRUN_CPUS_PER_TASK" > {tmp_path}/cpus; exit {code}',
        "scontrol": f'echo "$@" > {tmp_path}/asked',
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
    environment |= {"SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "8"}
    done = subprocess.run(["bash", script, "--seeds=2"], env=environment, cwd=tmp_path)
    assert done.returncode == code
    assert (tmp_path / "cpus").read_text() == "8\n"
    asked = tmp_path / "asked"
    assert (asked.read_text() if asked.exists() else "") == ("requeue 7\n" if requeued else "")


def test_the_jobset_runs_one_process_in_each_pod():
    (document,) = yaml.safe_load_all((CLUSTER / "jobset.yaml").read_text())
    assert (document["apiVersion"], document["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (job,) = document["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert spec["completionMode"] == "Indexed"
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in container["args"])
    assert int(flags["num_processes"]) == spec["completions"] == spec["parallelism"]
    host, port = flags["coordinator"].split(":")
    name = document["metadata"]["name"]
    assert host == f"{name}-{job['name']}-0-0.{name}"
    assert int(port) in [p["containerPort"] for p in container["ports"]]
    mounted = [m["mountPath"] for m in container["volumeMounts"]]
    assert any(flags["workdir"].startswith(f"{path}/") for path in mounted)
    assert pod["restartPolicy"] == "Never"  # which a podFailurePolicy needs
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"] == {
        "containerName": container["name"],
        "operator": "In",
        "values": [2],
    }
    # A JobSet restarts a failed job, whatever the reason, unless a rule says otherwise.
    (rule,) = document["spec"]["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
