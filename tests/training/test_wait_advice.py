from __future__ import annotations

import dataclasses

import pytest

from signs_dist.run_folder.records import StepLine
from signs_dist.training.wait_advice import Reading, WaitAdvice, advise

FILES = Reading(
    storage="files",
    crops_files=False,
    transforms=False,
    num_workers=2,
    most_workers=8,
    image_bytes=3 * 224 * 224,
    num_images=1_000_000,
)
LINE = StepLine(
    epoch=1,
    step=10,
    images=1000,
    train_loss=0.5,
    train_accuracy=0.9,
    lr=0.1,
    images_per_second=100.0,
    data_wait_share=0.46,
)


def changed(**changes: object) -> Reading:
    return dataclasses.replace(FILES, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2])
def test_a_short_wait_calls_for_no_advice(share: float) -> None:
    assert advise(share, 100.0, FILES) is None


@pytest.mark.parametrize(
    ("share", "images_per_second", "reading", "advice"),
    [
        (
            *(0.46, 180.0, FILES),
            "data wait 46 %: decoding takes 11 ms an image on 2 workers, training 3 ms. "
            "data.num_workers=4 would keep up.",
        ),
        (
            *(0.6, 100.0, changed(num_workers=0)),
            "data wait 60 %: decoding takes 6 ms an image in the process that trains, training 4 ms. "
            "data.num_workers=2 would keep up.",
        ),
        (
            *(0.21, 100.0, changed(num_workers=1)),
            "data wait 21 %: decoding takes 10 ms an image on 1 worker, training 7.9 ms. "
            "data.num_workers=2 would keep up.",
        ),
        (
            *(0.46, 180.0, changed(most_workers=3)),
            "data wait 46 %: decoding takes 11 ms an image on 2 workers, training 3 ms; 4 workers "
            "would keep up, and the "
            "cores have room for 3. data.storage=packed decodes each image once, into 151 GB of data.cache.",
        ),
        (
            *(0.46, 180.0, changed(most_workers=3, crops_files=True, num_images=1000)),
            "data wait 46 %: decoding takes 11 ms an image on 2 workers, training 3 ms; 4 workers "
            "would keep up, and the "
            "cores have room for 3. data.storage=packed decodes each image once, into 0.15 GB of data.cache, and needs "
            "augment.crop_from=square.",
        ),
        (
            *(0.9, 10.0, changed(storage="packed", transforms=True, num_workers=1, most_workers=1)),
            "data wait 90 %: transforming takes 100 ms an image on 1 worker, training 10 ms; 10 workers would keep up, "
            "and the cores have room for 1. augment.backend=batch changes whole batches, on the device of the network.",
        ),
        (
            *(0.3, 1000.0, changed(storage="packed", num_workers=0)),
            "data wait 30 %: reading takes 0.3 ms an image in the process that trains, training 0.7 ms. "
            "data.num_workers=1 would keep up.",
        ),
        (
            *(0.9, 100.0, changed(storage="packed", num_workers=0, most_workers=1, num_images=10_000)),
            "data wait 90 %: reading takes 9 ms an image in the process that trains, training 1 ms. Put data.cache on "
            "storage that gives 151 MB/s, or give more memory: 1.5 GB.",
        ),
        (
            *(0.3, 1000.0, changed(storage="packed", num_workers=0, device_bytes=13_271_040)),
            "data wait 30 %: reading takes 0.3 ms an image in the process that trains, training 0.7 ms. "
            "data.storage=device holds all images, 13 MB, on the GPU.",
        ),
        (
            *(0.9, 10.0, changed(storage="packed", transforms=True, num_workers=1, most_workers=1, device_bytes=1)),
            "data wait 90 %: transforming takes 100 ms an image on 1 worker, training 10 ms; 10 workers would keep up, "
            "and the cores have room for 1. augment.backend=batch changes whole batches, on the device of the network.",
        ),
        (
            *(1.0, 1.0, changed(most_workers=2, num_images=1000)),
            "data wait 99 %: decoding takes 2000 ms an image on 2 workers, training 10 ms; 200 "
            "workers would keep up, and "
            "the cores have room for 2. data.storage=packed decodes each image once, into 0.15 GB of data.cache.",
        ),
    ],
)
def test_the_advice_has_a_number(share: float, images_per_second: float, reading: Reading, advice: str) -> None:
    assert advise(share, images_per_second, reading) == advice


def test_what_is_on_the_device_cannot_be_read_faster() -> None:
    assert advise(0.9, 100.0, changed(storage="device", num_workers=0)) is None


def test_just_below_100_ms_is_written_without_an_exponent() -> None:
    advice = advise(0.5, 20.06, FILES)
    assert advice is not None
    assert "decoding takes 100 ms an image on 2 workers, training 25 ms" in advice


def test_the_advice_comes_once() -> None:
    told = WaitAdvice(FILES)
    lines = [told.after_epoch(LINE, 10_000, 1) for _ in range(3)]
    assert lines[0] is not None
    assert lines[1:] == [None, None]


def test_a_short_epoch_tells_nothing_and_the_first_must_be_longer() -> None:
    told = WaitAdvice(FILES)
    assert told.after_epoch(LINE, 1000, 1) is None  # 10 s, in which the workers started
    assert told.after_epoch(LINE, 100, 1) is None  # 1 s
    assert told.after_epoch(dataclasses.replace(LINE, data_wait_share=0.1), 1000, 1) is None
    assert told.after_epoch(LINE, 1000, 1) is not None


def test_the_speed_is_that_of_one_process() -> None:
    line = WaitAdvice(FILES).after_epoch(dataclasses.replace(LINE, images_per_second=720.0), 100_000, 4)
    assert line == advise(0.46, 180.0, FILES)


def test_stored_features_and_an_epoch_without_a_step_call_for_no_advice() -> None:
    assert WaitAdvice(None).after_epoch(LINE, 10_000, 1) is None
    assert WaitAdvice(FILES).after_epoch(dataclasses.replace(LINE, images_per_second=0.0), 0, 1) is None
