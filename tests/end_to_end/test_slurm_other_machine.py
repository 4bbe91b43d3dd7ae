"""On a real SLURM: an exact run that is requeued onto a machine which computes other bits."""

from __future__ import annotations

import contextlib
import re
import time

import pytest

from signs_dist.errors import UserError
from tests.processes import PATIENCE
from tests.slurm_cluster import Site, requires_slurm

pytestmark = [pytest.mark.slow, requires_slurm, pytest.mark.timeout(600)]

OTHER = "127.0.1.2"
"""The node whose oneDNN is capped: its bits are those of a processor without AVX."""
OTHERS = ("127.0.1.1", "127.0.1.3", "127.0.1.4")
SITE = f"""
setup:
  - '[ "$SLURMD_NODENAME" = {OTHER} ] && export ONEDNN_MAX_CPU_ISA=SSE41'
"""


def set_state(site: Site, state: str, *nodes: str) -> None:
    for node in nodes:
        with contextlib.suppress(UserError):  # one that is idle already
            site.cluster.run("scontrol", "update", f"NodeName={node}", f"State={state}", "Reason=test")


def test_a_requeued_run_leaves_a_machine_that_computes_other_bits(site: Site, one_process: str) -> None:
    (site.folder / "site.yaml").write_text(SITE)
    try:
        set_state(site, "DRAIN", OTHER)
        flags = ["--cluster", "site.yaml", "--time", "60"]
        job = site.submit(*flags, "--", "--run-dir", "run", *site.settings())
        site.await_step("run", 10)
        set_state(site, "RESUME", OTHER)
        set_state(site, "DRAIN", *OTHERS)
        site.cluster.run("scancel", "--signal=USR2", job)  # it is saved and requeued, and lands on the other machine
        deadline = time.monotonic() + PATIENCE
        while len(requeues := [line for line in site.attempts("run") if line["event"] == "requeue"]) < 2:
            assert time.monotonic() < deadline, site.type_in("logs", job, "--all").stdout
            time.sleep(0.3)
        set_state(site, "RESUME", *OTHERS)
        ended = site.type_in("wait", job)
    finally:
        set_state(site, "RESUME", OTHER, *OTHERS)
    said = site.type_in("logs", job, "--all").stdout
    assert ended.returncode == 0, ended.stdout + ended.stderr + said
    assert site.result("run")["weights_sha256"] == one_process
    assert site.result("run")["arithmetic_changes"] == []
    assert [line.get("excluded") for line in requeues] == [None, OTHER]
    assert requeues[1]["why"] == f"{OTHER} computes other bits than the run did"
    assert (site.show(job)["ExcNodeList"], site.show(job)["Restarts"]) == (OTHER, "2")
    refused = re.search(r"exact=true: from the same config and images, the model .* than when this run was.*", said)
    assert refused is not None, said
    assert "ONEDNN_MAX_CPU_ISA none → SSE41" in refused[0]
    # The attempt that was refused has not begun.
    assert [line["event"] for line in site.attempts("run")] == ["start", "end", "requeue", "requeue", "start", "end"]
