"""The program of each task of a SLURM job: load the job that its submission has pickled, and call it.

python -m launch.task FOLDER            (internal: srun starts it)
"""

from __future__ import annotations

import sys

from .program import refuse_typed


def main(folder: str) -> None:
    """Run the job whose pickle is in `folder`, under the id that SLURM's variables give.

    submitit waits for the pickle, which is written once SLURM has told the id, and writes the result beside it.
    """
    from submitit.core.submission import process_job

    process_job(folder)


if __name__ == "__main__":
    refuse_typed(sys.argv[1:], 1, "submit")
    main(sys.argv[1])
