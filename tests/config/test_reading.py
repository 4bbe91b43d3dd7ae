"""Reading the config: what wins, what is refused, and what the message says to type."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from signs_dist.config.messages import find_setting
from signs_dist.config.reading import load_config
from signs_dist.config.settings import Config, flatten
from signs_dist.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]


def message_of(tmp_path: Path, content: str | bytes | None, *overrides: str) -> str:
    """What a user is told about a config, without the folder's name."""
    path = None
    if content is not None:
        path = tmp_path / "c.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    return str(caught.value).replace(f"{tmp_path}/", "")


def read(tmp_path: Path, content: str, *overrides: str) -> Config:
    path = tmp_path / "c.yaml"
    path.write_text(content, encoding="utf-8")
    return load_config(path, overrides).config


def test_the_command_line_wins_over_the_file_which_wins_over_the_defaults(tmp_path: Path) -> None:
    config = read(tmp_path, "train: {epochs: 7, global_batch: 16}\n", "train.epochs=9", "train.epochs=11")
    assert (config.train.epochs, config.train.global_batch, config.optim.lr) == (11, 16, Config().optim.lr)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1E-4", 1e-4), ("1.e-4", 1e-4), (".5", 0.5), ("5.", 5.0), ("+.5e1", 5.0), ("3", 3.0)],
)
def test_numbers_are_numbers(tmp_path: Path, text: str, value: float) -> None:
    assert read(tmp_path, f"optim: {{lr: {text}}}").optim.lr == value
    assert load_config(None, [f"optim.lr={text}"]).config.optim.lr == value


@pytest.mark.parametrize("word", ["yes", "No", "on", "OFF", "010", "0x10", "1:30", "1_000", "2024-01-01", "="])
def test_odd_words_are_text(tmp_path: Path, word: str) -> None:
    assert read(tmp_path, f"model: {{args: {{a: {word}}}}}").model.args == {"a": word}
    assert read(tmp_path, "", f"data.root={word}").data.root == word


@pytest.mark.parametrize(
    "content", ["", "# nothing\n", "null\n", "---\n...\n", "data:\n", "data: null\ntrain: ~\n", "{}"]
)
def test_an_empty_file_or_section_is_the_defaults(tmp_path: Path, content: str) -> None:
    assert read(tmp_path, content) == Config()


def test_a_byte_order_mark_an_alias_and_quoted_keys_are_fine(tmp_path: Path) -> None:
    config = read(tmp_path, '\ufeff"train": {epochs: &n 3, "global_batch": *n}')
    assert (config.train.epochs, config.train.global_batch) == (3, 3)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # unknown keys: where, the nearest, what is legal
        (
            "train:\n  epoch: 3",
            "c.yaml:2: unknown key train.epoch. Did you mean train.epochs? Legal in train: epochs, ",
        ),
        (
            "\nlearning_rate: 1",
            "c.yaml:2: unknown key learning_rate. Did you mean optim.lr? Legal: seed, exact, ",
        ),
        ("train: {batch_size: 3}", "c.yaml:1: unknown key train.batch_size. Did you mean train.global_batch?"),
        ("train.epochs: 3", "unknown key train.epochs. In a file, write epochs on its own line below `train:`."),
        ("1: 2", "c.yaml:1: unknown key 1. Legal: seed,"),
        ("? [a]\n: 3", "c.yaml:1: a key is a word, not a list or a mapping."),
        # wrong types
        ("optim:\n  name: adm", "c.yaml:2: optim.name: adm is not legal. It takes one of sgd, adam, adamw"),
        ("optim:\n  name: adm", "Did you mean adam?"),
        ("train: {epochs: 3.0}", "train.epochs: 3.0 is not legal. It takes a whole number, at least 1."),
        ("train: {epochs: '3'}", "train.epochs: '3' is not legal."),
        ("train: {epochs: true}", "train.epochs: true is not legal."),
        ("train: {epochs: 010}", "train.epochs: 010 is not legal."),
        ("train: {epochs: 1:30}", "train.epochs: 1:30 is not legal."),
        ("optim: {nesterov: yes}", "optim.nesterov: yes is not legal. It takes true or false or null."),
        ("optim: {lr: .nan}", "optim.lr: .nan is not legal. It takes a number, above 0."),
        ("optim: {lr: .inf}", "optim.lr: .inf is not legal."),
        ("augment: {flip: 1e400}", "augment.flip: .inf is not legal. It takes a number, at least 0 and at most 1."),
        ("seed: null", "seed: null is not legal."),
        (
            "data: {root: 123}",
            "data.root: 123 is not legal. It takes text that is not empty or null. To mean text, quote it",
        ),
        ("data: {mean: [0, 0, x]}", "data.mean: entry 3: x is not legal. It takes a list of 3, each a number."),
        ("data: {mean: [.nan, 0, 0]}", "data.mean: entry 1: .nan is not legal."),
        ("data: {std: [0, 1, 1]}", "data.std: entry 1: 0 is not legal. It takes a list of 3, each a number, above 0."),
        ("model: {args: }", "model.args: null is not legal. It takes a mapping such as {name: value}."),
        (
            "augment: {backend: torchvision, transforms: [A]}",
            "entry 1: A is not legal. It takes a list, each a mapping",
        ),
        # shape
        ("- a\n", "c.yaml:1: a config is a mapping such as `train: {epochs: 10}`, not a list or a value."),
        ("3", "c.yaml:1: a config is a mapping"),
        ("data: 3", "c.yaml:1: data is a section: write its keys below it, such as `root: …`."),
        ("data:\n  synthetic: []", "c.yaml:2: data.synthetic is a section"),
        # what YAML does silently elsewhere
        ("train:\n  epochs: 3\n  epochs: 4", "c.yaml:3: train.epochs is given twice; line 2 sets it already."),
        ("train: {}\ntrain: {}", "c.yaml:2: train is given twice"),
        ("model: {args: {a: 1, a: 2}}", "c.yaml:1: model.args: a is given twice"),
        ("model: {args: {a: {b: 1, b: 2}}}", "b is given twice"),
        (
            "train: &t {epochs: 3}\nlog:\n  <<: *t",
            "c.yaml:3: log.<<: merge keys are not read. Write the settings in full.",
        ),
        ("model: {args: {a: &t {b: 1}, c: {<<: *t}}}", "merge keys are not read"),
        ("train: {epochs: 3}\n---\nseed: 1", "c.yaml:2: not valid YAML: but found another document."),
        # tags
        (
            "model: {args: {a: !!python/object/apply:os.getcwd []}}",
            "c.yaml:1: model.args: the tag tag:yaml.org,2002:py",
        ),
        ("data: {root: !!binary aGk=}", "the tag tag:yaml.org,2002:binary is not read. A config holds plain values"),
        ("model: {args: {a: !!set {b}}}", "the tag tag:yaml.org,2002:set is not read"),
        ("model: {args: {a: !!timestamp x}}", "the tag tag:yaml.org,2002:timestamp is not read"),
        ("train: {epochs: !mine 3}", "the tag !mine is not read"),
        ("train: {epochs: !!int x}", "c.yaml:1: train.epochs: invalid literal"),
        # syntax
        ("train:\n\tepochs: 3", "c.yaml:2: not valid YAML: found character '\\t'"),
        ("train: {epochs: 3", "c.yaml:1: not valid YAML: expected ',' or '}'"),
        ("train: *x", "c.yaml:1: not valid YAML: found undefined alias 'x'."),
        ("seed: 1\ntrain: \x07", "c.yaml:2: not valid YAML: the character #x0007 is not allowed. Delete it."),
        (b"seed: 1\n# caf\xe9\n", "c.yaml:2: not UTF-8 text"),
        (b"\xff\xfes\x00", "c.yaml:1: not UTF-8 text"),
        # too much
        (f"model: {{args: {{a: {'[' * 5000}{']' * 5000}}}}}", "nested too deeply; 32 levels are legal."),
        (f"model: {{args: {{a: {'[' * 40}{']' * 40}}}}}", "nested too deeply; 32 levels are legal."),
        ("model: {args: &x {a: *x}}", "nested too deeply"),
        (f"train: {{epochs: {'9' * 9999}}}", "Exceeds the limit"),
        # combinations
        ("optim:\n  name: adam\n  momentum: 0.9", "c.yaml:3: optim.momentum is not read by optim.name=adam"),
        ("loss: {name: mse, label_smoothing: 0.1}", "loss.label_smoothing does nothing for loss.name=mse. Set it to 0"),
        ("schedule: {warmup_epochs: 3}", "c.yaml:1: schedule.warmup_epochs is not read by schedule.name=one_cycle"),
        ("augment: {backend: torchvision}", "augment.backend=torchvision needs augment.transforms, such as ["),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, content: str | bytes, expected: str) -> None:
    assert expected in message_of(tmp_path, content)


def test_aliases_cannot_blow_up_a_small_file(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    content = "model: {args: {" + ", ".join(rows) + "}}"
    assert "too large with its aliases written out; 10,000 values in 32 levels" in message_of(tmp_path, content)


def test_a_very_long_value_is_told_short(tmp_path: Path) -> None:
    message = message_of(tmp_path, f"train: {{epochs: '{'x' * 200_000}'}}")
    assert len(message) < 400
    assert "(200,000 characters)" in message
    assert len(message_of(tmp_path, None, f"train.epochs={'x' * 200_000}")) < 800


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optim.lr", "optim.lr: a setting is written section.key=value, such as optim.lr=0.05."),
        ("=3", "a setting is written section.key=value"),
        ("optim.=3", "a setting is written section.key=value"),
        ("model.args.=3", "a setting is written section.key=value"),
        ("optim.rl=3", "optim.rl=3: unknown key optim.rl. Did you mean optim.lr? Legal in optim: name, lr,"),
        ("epochs=3", "epochs=3: unknown key epochs. Did you mean train.epochs?"),
        ("optim=3", "optim=3: optim is a section. Set one of its keys, such as optim.name=…."),
        ("optim.lr.x=3", "optim.lr is a value and has no keys below it."),
        ("optim.lr=fast", "optim.lr=fast: fast is not legal. It takes a number, above 0."),
        ("optim.lr=", "optim.lr=: there is no value. Type optim.lr=null for none"),
        ("data.root=", "data.root=: there is no value. Type data.root=null for none, or data.root='' for empty text."),
        ("data.root=#1", "there is no value"),
        ("data.root=photos #1", "YAML reads only 'photos' of it. Quote it for the shell and for YAML."),
        ("data.root=a\nb", "YAML reads only 'a b' of it."),
        (
            "data.root=12",
            """data.root=12: 12 is not legal. It takes text that is not empty or null. To mean text, quote it""",
        ),
        ("data.root=12", """"data.root='12'"."""),
        ("data.root=@x", "not valid YAML: found character '@'"),
        ("model.args.a=!!python/name:os.system", "the tag tag:yaml.org,2002:python/name:os.system is not read"),
        ("model.args.a={b: 1, b: 2}", "b is given twice"),
        ("model.args.a=&x [*x]", "nested too deeply"),
        ("train.precision=bf16", "Did you mean bfloat16?"),
    ],
)
def test_a_wrong_override_is_refused(tmp_path: Path, override: str, expected: str) -> None:
    assert expected in message_of(tmp_path, None, override)


def test_an_override_below_a_wrong_section_is_refused(tmp_path: Path) -> None:
    assert "data is a section" in message_of(tmp_path, "data: 3", "data.root=x")
    assert "model.args.a.b=4: a holds 3, which has no keys" in message_of(
        tmp_path, None, "model.args.a=3", "model.args.a.b=4"
    )
    assert "args holds [1], which has no keys" in message_of(tmp_path, "model: {args: [1]}", "model.args.a=4")


def test_all_wrong_values_are_told_at_once(tmp_path: Path) -> None:
    message = message_of(tmp_path, "train:\n  epochs: x", "optim.lr=y", "seed=z")
    assert [line.split(": ")[0] for line in message.splitlines()] == ["seed=z", "optim.lr=y", "c.yaml:2"]


def test_a_wrong_combination_names_the_place_that_made_it(tmp_path: Path) -> None:
    message = message_of(tmp_path, "schedule: {name: cosine}\ntrain: {epochs: 40}", "schedule.warmup_epochs=50")
    assert message.startswith(
        "schedule.warmup_epochs=50: schedule.warmup_epochs=50 is not shorter than train.epochs=40."
    )


def test_arguments_of_the_network_are_merged_one_by_one(tmp_path: Path) -> None:
    config = read(tmp_path, "model: {args: {a: 1, b: {c: 2}}}", "model.args.b.d=3", "model.args.a=4")
    assert config.model.args == {"a": 4, "b": {"c": 2, "d": 3}}
    assert read(tmp_path, "model: {args: {a: 1}}", "model.args={z: 1}").model.args == {"z": 1}


def test_explain_prints_every_value_with_its_origin(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("train:\n  epochs: 7\nmodel:\n  args: {channels: 4}\n", encoding="utf-8")
    lines = load_config(path, ["optim.lr=1e-4", "model.args.dropout=0.5"]).explain().splitlines()
    rows = [line for line in lines if "  # " in line]
    table = {row.split(" = ")[0].strip(): row.split(" = ")[1].split("  # ") for row in rows}
    assert list(table) == [key for key, _ in flatten(Config())]
    assert [part.strip() for part in table["train.epochs"]] == ["7", f"{path}:2"]
    assert [part.strip() for part in table["optim.lr"]] == ["0.0001", "optim.lr=1e-4"]
    assert [part.strip() for part in table["train.global_batch"]] == [str(Config().train.global_batch), "default"]
    assert [part.strip() for part in table["model.args"]] == [
        "{channels: 4, dropout: 0.5}",
        f"{path}:4, model.args.dropout=0.5",
    ]


def test_explain_says_below_each_setting_what_it_does() -> None:
    lines = load_config(None, ["optim.lr=1e-4"]).explain().splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("optim.lr "))
    text = "    Peak learning rate. It is used as written and never scaled by the batch or the number of"
    assert lines[place + 1 : place + 3] == [text, "    processes."]
    assert lines[lines.index("train: Length of the run, batch, number format and threads.") - 1] == ""
    below = [lines[place + 1].startswith("    ") for place, line in enumerate(lines) if re.match(r"[a-z_.]+ +=", line)]
    assert below == [True] * len(flatten(Config()))


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_explain_fits_into_a_hundred_columns(path: Path) -> None:
    assert max(map(len, load_config(path).explain().splitlines())) <= 100


def test_a_setting_that_is_replaced_whole_has_one_origin() -> None:
    loaded = load_config(None, ["model.args.a=1", "model.args={b: 2}"])
    assert loaded.origins == {"model.args": "model.args={b: 2}"}


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "signs.yaml").write_text("")
    with pytest.raises(UserError, match=r"sings.yaml: no such file\. Did you mean .*/signs.yaml\?"):
        load_config(tmp_path / "sings.yaml")
    with pytest.raises(UserError, match=r"cannot be read: Is a directory\. Give a YAML file\."):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("word", "setting"),
    [
        ("epochs", "train.epochs"),
        ("epcohs", "train.epochs"),
        ("batch-size", "train.global_batch"),
        ("lr", "optim.lr"),
        ("optim.rl", "optim.lr"),
        ("zzz", ""),
    ],
)
def test_a_guess_finds_the_setting(word: str, setting: str) -> None:
    assert find_setting(word) == setting


def test_no_python_tag_is_run(tmp_path: Path) -> None:
    """In a process of its own, so that what would be run could be seen."""
    mark, path = tmp_path / "ran", tmp_path / "evil.yaml"
    path.write_text(f"model: {{args: {{a: !!python/object/apply:os.mkdir [{json.dumps(str(mark))}]}}}}")
    done = subprocess.run(
        [sys.executable, "-m", "signs_dist.train", "--config", str(path), "--explain"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "evil.yaml:1: model.args: the tag tag:yaml.org,2002:python/object/apply:os.mkdir is not read" in done.stderr
    assert not mark.exists()
