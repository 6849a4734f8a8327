"""The settings of Hidden Positives: the published ones, what is left out in words, and what data change."""

from dataclasses import asdict, replace

import pytest

from geohp.config.loading import load_config
from geohp.errors import ConfigError
from geohp.methods.hp.settings import HPSettings, LearningRates
from geohp.methods.settings import TrainingSize

ALL_GIVEN = HPSettings(pool_size=30, warmup_steps=7, renew_interval=2)


def size(images=50, batch_size=8, epochs=10, devices=1):
    return TrainingSize(images=images, batch_size=batch_size, epochs=epochs, devices=devices)


def test_a_temperature_that_the_loss_cannot_serve_is_refused_before_anything_is_computed():
    load_config("orthophotos", ["method.name=hp", "method.temperature=0.015625"])
    with pytest.raises(ConfigError, match=r"method\.temperature"):
        load_config("orthophotos", ["method.name=hp", "method.temperature=0.0156"])


def test_the_published_numbers():
    assert asdict(LearningRates()) == {
        "head": 5e-4, "projection": 5e-4, "linear_probe": 1e-3, "cluster_probe": 5e-3, "weight_decay": 0.1,
    }  # fmt: skip
    assert asdict(HPSettings()) == {
        "name": "hp", "code_channels": 256, "temperature": 0.4, "consistency_weight": 0.0, "keep_rate": 1.0,
        "pool_size": None, "ema_momentum": 0.999, "warmup_steps": None, "renew_interval": None, "dropout": 0.1,
        "task_agnostic_positives": True, "task_specific_positives": True, "symmetric_positives": True,
        "local_positives": True, "reweight": True, "refit_probe": True, "learning_rates": asdict(LearningRates()),
        "clip_norm": 10.0,
    }  # fmt: skip


def test_what_is_left_out_in_words():
    agnostic, specific = {"task_agnostic_positives": False}, {"task_specific_positives": False}
    assert HPSettings(**agnostic).left_out == ("task-agnostic positives",)
    assert HPSettings(**specific, local_positives=False).left_out == ("task-specific positives", "local positives")
    assert HPSettings(symmetric_positives=False).left_out == ("symmetric positives",)
    # Where nothing is discovered, nothing is symmetric or not.
    nothing = HPSettings(**agnostic, **specific, symmetric_positives=False)
    assert nothing.left_out == ("task-agnostic positives", "task-specific positives")
    assert [HPSettings(**agnostic).discovers, HPSettings(**specific).discovers, nothing.discovers] == [
        True,
        True,
        False,
    ]


def test_numbers_that_fit_stay_without_a_word():
    assert ALL_GIVEN.resolve(size()) == (ALL_GIVEN, [])
    for images, pool in ((30, 30), (29, 29)):  # a row an image
        resolved, notes = ALL_GIVEN.resolve(size(images, epochs=20))
        assert resolved == replace(ALL_GIVEN, pool_size=pool)
        assert len(notes) == (pool < 30)


@pytest.mark.parametrize(("warmup", "notes"), [(59, 0), (60, 1), (100, 1)])
def test_a_warmup_that_never_ends_is_told(warmup, notes):
    _, said = replace(ALL_GIVEN, warmup_steps=warmup).resolve(size())  # 60 steps
    assert len(said) == notes
    if notes:
        assert said[0].startswith(f"method.warmup_steps = {warmup} is all of the 60 steps: task-specific positives")
        assert said[0].endswith("8 would be usual")


@pytest.mark.parametrize(("interval", "notes"), [(5, 0), (6, 1), (20, 1)])
def test_a_pool_that_is_never_refilled_is_told(interval, notes):
    _, said = replace(ALL_GIVEN, renew_interval=interval).resolve(size())  # 6 steps an epoch
    assert len(said) == notes
    if notes:
        assert said[0].startswith(f"method.renew_interval = {interval} is beyond an epoch's 6 steps")
        assert said[0].endswith("3 would be usual")


@pytest.mark.parametrize(
    ("images", "batch_size", "devices", "advice"),
    [(50, 64, 1, 6), (50, 32, 2, 3), (7, 64, 1, 1), (50, 25, 1, None), (1, 64, 1, None), (50, 1, 64, None)],
)
def test_an_epoch_of_a_single_step_is_told(images, batch_size, devices, advice):
    _, notes = replace(ALL_GIVEN, pool_size=1, renew_interval=1).resolve(size(images, batch_size, devices=devices))
    assert notes == (
        [
            f"an epoch of {images} images in batches of {batch_size * devices} is a single step, so that the "
            f"task-specific pool is never refilled; a train.batch_size of {advice} would make it eight"
        ]
        if advice
        else []
    )


def test_counts_of_one_are_of_one():
    said = HPSettings().resolve(size(1, 1, epochs=8))[1]
    assert said == [
        "reference pools of 1 patch, one an image, from 1 image",
        "warm-up of 1 step of 8",
        "task-specific pool refilled every 1 step of an epoch's 1",
    ]
