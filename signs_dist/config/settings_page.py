"""The page docs/settings.md, made from the schema.

python -m signs_dist.config.settings_page > docs/settings.md
"""

from __future__ import annotations

from collections.abc import Iterator

from signs_dist.config.explaining import docstring_of
from signs_dist.config.messages import describe_field
from signs_dist.config.section import Section, section_of, summary_of
from signs_dist.config.settings import Config
from signs_dist.config.yaml_text import format_value

HEAD = """\
# Settings

<!-- Made from signs_dist/config/settings.py by: python -m signs_dist.config.settings_page > docs/settings.md -->

A run is described by one config. Its values come from the defaults below, then from the file of `--config`, then from
`section.key=value` on the command line; a later value overrides an earlier one.

    python -m signs_dist.train --config configs/cs230.yaml optim.lr=1e-4
    python -m signs_dist.train --config configs/cs230.yaml --explain       # every value, and where it came from

In a file, the keys of a section are indented below its name:

```yaml
train:
  epochs: 20
  global_batch: 64
model:
  args: {channels: 32}
```

Values have types: `1e-4` is a number, `yes` and `010` are text, and `"3"` is not 3. An unknown key, a key that is given
twice and a value of the wrong type are refused, with file, line and the nearest legal name:

```text
$ python -m signs_dist.train --config mine.yaml
error: mine.yaml:3: unknown key train.global_btach. Did you mean train.global_batch? Legal in train: epochs, …
```

[Recipes](recipes.md) lists the files in `configs/`. [Ways to launch](launching.md#the-batch)
explains `train.global_batch` and `train.micro_batch`.
"""


def settings_page() -> str:
    """The whole page as Markdown: a table for each section, in the schema's order."""
    parts = [HEAD, "\n".join(["## The run", "", *_table(Config, "")]) + "\n"]
    parts += [
        "\n".join([f"## {dotted}", "", summary_of(section), "", *_table(section, f"{dotted}.")]) + "\n"
        for dotted, section in _sections(Config, "")
    ]
    return "\n".join(parts)


def _sections(schema: type[Section], prefix: str) -> Iterator[tuple[str, type[Section]]]:
    for name, field in schema.model_fields.items():
        section = section_of(field.annotation)
        if section is not None:
            yield prefix + name, section
            yield from _sections(section, f"{prefix}{name}.")


def _table(schema: type[Section], prefix: str) -> list[str]:
    """The rows for the settings of a section, without those of the sections in it."""
    rows = ["| setting | default | takes | what it does |", "|---|---|---|---|"]
    for name, field in schema.model_fields.items():
        if section_of(field.annotation) is None:
            default = format_value(field.get_default())
            cells = [f"`{prefix}{name}`", f"`{default}`", describe_field(field), docstring_of(field)]
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


if __name__ == "__main__":
    print(settings_page(), end="")
