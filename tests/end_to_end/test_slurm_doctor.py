"""The doctor through a real SLURM: it examines the nodes that a run would get."""

from __future__ import annotations

import json

import pytest

from tests.slurm_cluster import Site, requires_slurm

pytestmark = [pytest.mark.slow, requires_slurm, pytest.mark.timeout(600)]


def test_the_doctor_examines_two_nodes(site: Site) -> None:
    ended = site.type_in("doctor", "--nodes", "2", "--time", "30", "--", "--json", "found.json", "--run-dir", "run")
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    found = json.loads((site.folder / "found.json").read_text())
    assert found["world_size"] == 2
    by_check = {each["check"]: each for each in found["findings"]}
    assert {each["check"] for each in found["findings"] if each["status"] == "fail"} == set()
    assert by_check["names"]["measured"] == "2 machines find each other's names"
    assert by_check["ports"]["measured"] == "2 connections, each way between all ranks"
    assert "1 pair between machines: " in by_check["pairs"]["measured"]
    assert by_check["same view"]["measured"].startswith("2 machines see the same files in ")
    assert by_check["clocks"]["status"] == "ok"
    assert "main (the default)" in by_check["slurm"]["measured"]
    assert by_check["signal"]["measured"].startswith("SIGUSR2 of SLURM reached 2 ranks within ")
    assert "rank 0.log" not in said
    assert f"{len([each for each in found['findings'] if each['status'] == 'warn'])} warn" in said
    assert list(site.folder.glob(".doctor-*")) == []  # nothing is left in the folder that was tried
