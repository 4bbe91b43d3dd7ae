"""The flags of a search, and the sweep that they ask for together with a config, a file and words."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from signs_dist.console.command import MOST_SEED, whole_number

if TYPE_CHECKING:
    from signs_dist.searching.definition import Definition
    from signs_dist.searching.sweep_folder import SweepFolder


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how trials are chosen and compared."""
    search = parser.add_argument_group("the search")
    search.add_argument("--search", choices=("grid", "random", "tpe"), help="how trials are chosen (default: grid)")
    search.add_argument("--trials", type=whole_number(10**6), metavar="N", help="how many, for random and tpe")
    search.add_argument("--search-seed", type=whole_number(MOST_SEED), metavar="N", help="of the choices (default: 0)")
    search.add_argument(
        "--by", choices=("val_accuracy", "val_loss", "val_macro_f1"), help="what is compared (default: val_accuracy)"
    )
    search.add_argument(
        "--stop-early", choices=("none", "median", "halving"), help="stop hopeless trials (default: none)"
    )
    search.add_argument("--storage", metavar="URL", help="database of a tpe search, such as sqlite:////shared/study.db")
    search.add_argument("--study", metavar="NAME", help="name of the study in that database (default: that of --out)")


def read_definition(options: argparse.Namespace, folder: SweepFolder) -> Definition:
    """The sweep that the flags ask for; without a config, a file or words it is the one that the folder holds.

    Raises:
        UserError: they contradict each other.
    """
    from signs_dist.config.file_text import refuse_pipe
    from signs_dist.searching.definition import Definition, with_words
    from signs_dist.searching.definition_file import read_definition as read_file

    refuse_pipe(options.config)
    if options.file is not None:
        refuse_pipe(options.file)
        definition = read_file(options.file)
        if options.config is not None:
            definition = dataclasses.replace(definition, config=options.config)
    elif folder.is_begun and not options.words and options.config is None:
        definition = folder.read_definition()
    else:
        definition = Definition(config=options.config)
    definition = with_words(definition, options.words)
    given = {
        "search": options.search,
        "num_trials": options.trials,
        "search_seed": options.search_seed,
        "measure": options.by,
        "stop_early": options.stop_early,
        "storage": options.storage,
        "study": options.study,
    }
    return dataclasses.replace(definition, **{name: value for name, value in given.items() if value is not None})
