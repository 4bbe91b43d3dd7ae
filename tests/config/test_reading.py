"""Reading the config: what wins, what is refused, and what the message says to type."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.config.reading import load_config, read_config
from signs_dist.config.settings import Config
from signs_dist.errors import UserError
from tests.config.config_files import message_of, read


def test_the_command_line_wins_over_the_file_which_wins_over_the_defaults(tmp_path: Path) -> None:
    config = read(tmp_path, "train: {epochs: 7, global_batch: 16}\n", "train.epochs=9", "train.epochs=11")
    assert (config.train.epochs, config.train.global_batch, config.optim.lr) == (11, 16, Config().optim.lr)


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
        ("? [a]\n: 3", "c.yaml:1: a key must be a word, not a list or a mapping."),
        # wrong types
        ("optim:\n  name: adm", "c.yaml:2: optim.name: adm is not legal. It takes one of sgd, adam, adamw"),
        ("optim:\n  name: adm", "Did you mean adam?"),
        (
            "train: {epochs: 3.0}",
            "train.epochs: 3.0 is not legal. It takes a whole number, at least 1 and at most 2147483647.",
        ),
        ("train: {epochs: '3'}", "train.epochs: '3' is not legal."),
        ("train: {epochs: true}", "train.epochs: true is not legal."),
        ("train: {epochs: 010}", "train.epochs: 010 is not legal."),
        ("train: {epochs: 1:30}", "train.epochs: 1:30 is not legal."),
        ("optim: {nesterov: yes}", "optim.nesterov: yes is not legal. It takes true or false or null."),
        ("optim: {lr: .nan}", "optim.lr: .nan is not legal. It takes a number, above 0 and at most 1e+30."),
        ("optim: {lr: .inf}", "optim.lr: .inf is not legal."),
        ("augment: {flip: 1e400}", "augment.flip: .inf is not legal. It takes a number, at least 0 and at most 1."),
        ("seed: null", "seed: null is not legal."),
        (
            "data: {root: 123}",
            "data.root: 123 is not legal. It takes text that is not empty or a list, "
            "each text that is not empty or null. For text, quote the value",
        ),
        (
            "data: {mean: [0, 0, x]}",
            "data.mean: entry 3: x is not legal. It takes a list of 3, each a number, at least -1000",
        ),
        ("data: {mean: [.nan, 0, 0]}", "data.mean: entry 1: .nan is not legal."),
        (
            "data: {std: [0, 1, 1]}",
            "data.std: entry 1: 0 is not legal. It takes a list of 3, each a number, at least 1e-05",
        ),
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
        (f"train: {{epochs: {'9' * 9999}}}", "a number of too many digits"),
        # combinations
        ("optim:\n  name: adam\n  momentum: 0.9", "c.yaml:3: optim.momentum is not read by optim.name=adam"),
        ("loss: {focal_gamma: 3}", "loss.focal_gamma is not read by loss.name=cross_entropy. Delete it"),
        ("loss: {class_weights: balance}", "class_weights: balance is not legal. It takes balanced, or a list"),
        ("loss: {class_weights: [1, -1]}", "[1, -1] is not legal"),
        ("loss: {class_weights: balanced}\ndata: {order: balanced}", "would make up for class imbalance twice"),
        ("loss: {name: mse, label_smoothing: 0.1}", "loss.label_smoothing does nothing for loss.name=mse. Set it to 0"),
        ("schedule: {warmup_epochs: 3}", "c.yaml:1: schedule.warmup_epochs is not read by schedule.name=one_cycle"),
        ("augment: {backend: torchvision}", "augment.backend=torchvision needs augment.transforms, such as ["),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, content: str | bytes, expected: str) -> None:
    assert expected in message_of(tmp_path, content)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optim.lr", "optim.lr: a setting is one word with an equals sign and without blanks: optim.lr=…"),
        ("optim.lr =3", "optim.lr =3: a setting is one word with an equals sign and without blanks: optim.lr=3"),
        (" optim.lr=3", "without blanks: optim.lr=3"),
        ("epochs", "without blanks: train.epochs=…"),
        ("train.epochs:3", "without blanks: train.epochs=3"),
        ("optim.betas = [0.9, 0.99]", "without blanks: optim.betas='[0.9, 0.99]'"),
        ("runs/b", "runs/b: a setting is written section.key=value, such as optim.lr=0.05."),
        ("configs/signs.yaml", "a config file is given with its flag: --config configs/signs.yaml"),
        ("my config.yml", "a config file is given with its flag: --config 'my config.yml'"),
        ("=3", "a setting is written section.key=value"),
        ("optim.=3", "a setting is written section.key=value"),
        ("model.args.=3", "a setting is written section.key=value"),
        ("optim.rl=3", "optim.rl=3: unknown key optim.rl. Did you mean optim.lr? Legal in optim: name, lr,"),
        ("epochs=3", "epochs=3: unknown key epochs. Did you mean train.epochs?"),
        ("trian.epochs=3", "trian.epochs=3: unknown key trian. Did you mean train.epochs? Legal: seed, exact,"),
        ("trian.epoch=3", "unknown key trian. Did you mean train.epochs?"),
        ("optimizer.lr=3", "unknown key optimizer. Did you mean optim.lr?"),
        ("dta.sythetic.train=3", "unknown key dta. Did you mean data.synthetic.train?"),
        ("data.sythetic.train=3", "unknown key data.sythetic. Did you mean data.synthetic.train? Legal in data: root,"),
        ("trian.xyz=3", "unknown key trian. Did you mean train? Legal: seed,"),
        ("optim=3", "optim=3: optim is a section. Set one of its keys, such as optim.name=…."),
        ("optim.lr.x=3", "optim.lr is a value and has no keys below it."),
        ("optim.lr=fast", "optim.lr=fast: fast is not legal. It takes a number, above 0 and at most 1e+30."),
        ("optim.lr=", "optim.lr=: there is no value. It takes a number, above 0 and at most 1e+30."),
        (
            "train.epochs=",
            "train.epochs=: there is no value. It takes a whole number, at least 1 and at most 2147483647.",
        ),
        (
            "data.root=",
            "data.root=: there is no value. It takes text that is not empty or a list, each text",
        ),
        ("model.args.dropout=", "there is no value. It takes any value; null means none, and '' empty text."),
        ("optim.betas=0.9", "It takes a list of 2, each a number or null. For all 2: optim.betas=[0.9, 0.9]"),
        ("data.root=#1", "there is no value"),
        ("data.root=photos #1", "YAML reads only 'photos' of it. Quote it for the shell and for YAML."),
        ("data.root=a\nb", "YAML reads only 'a b' of it."),
        (
            "data.root=12",
            "data.root=12: 12 is not legal. It takes text that is not empty or a list, each text that is not empty or "
            "null. For text, quote the value",
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
    assert message.startswith("schedule.warmup_epochs=50 is not shorter than train.epochs=40.")
    message = message_of(tmp_path, "schedule: {name: cosine, warmup_epochs: 50}\ntrain: {epochs: 40}")
    assert message.startswith("c.yaml:1: schedule.warmup_epochs=50 is not shorter than train.epochs=40.")


def test_arguments_of_the_network_are_merged_one_by_one(tmp_path: Path) -> None:
    config = read(tmp_path, "model: {args: {a: 1, b: {c: 2}}}", "model.args.b.d=3", "model.args.a=4")
    assert config.model.args == {"a": 4, "b": {"c": 2, "d": 3}}
    assert read(tmp_path, "model: {args: {a: 1}}", "model.args={z: 1}").model.args == {"z": 1}


def test_a_setting_that_is_replaced_whole_has_one_origin() -> None:
    loaded = read_config(None, ["model.args.a=1", "model.args={b: 2}"])
    assert loaded.origins == {"model.args": "model.args={b: 2}"}


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "signs.yaml").write_text("")
    with pytest.raises(UserError, match=r"sings.yaml: no such file\. Did you mean .*/signs.yaml\?"):
        load_config(tmp_path / "sings.yaml")
    with pytest.raises(UserError, match=r"cannot be read: it is a folder\. Give a YAML file\."):
        load_config(tmp_path)
