"""The note that an attempt is on machines that compute other bits."""

from __future__ import annotations

from pathlib import Path

from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.other_machine import NAME, note_other_machine, read_other_machine


def test_the_note_is_about_one_attempt(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path).create()
    note_other_machine(folder, "7.1", ("n2",))
    assert read_other_machine(folder, "7.1") is None  # the run has not begun: nothing is saved that it could leave
    folder.write_config("seed: 0\n")
    note_other_machine(folder, "", ("n2",))
    assert not (folder.logs / NAME).exists()  # outside of SLURM
    note_other_machine(folder, "7.1", ("n2", "n3"))
    assert read_other_machine(folder, "7.1") == ("n2", "n3")
    assert read_other_machine(folder, "7.2") is None
    note_other_machine(folder, "7.2", ())
    assert read_other_machine(folder, "7.2") == ()
    (folder.logs / NAME).write_text("{")
    assert read_other_machine(folder, "7.2") is None
