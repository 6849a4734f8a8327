"""Settings derived from the data's size: the published ones at the published sizes, sane ones for fifty images."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geohp.config.loading import load_config, parse_config
from geohp.methods.hp.settings import pool_size_for, renew_interval_for, warmup_for
from geohp.training.defaults import epochs_for, resolve

OPEN = {"pool_size": "auto", "warmup_steps": "auto", "renew_interval": None}


def config(batch_size=8, epochs=10, **method):
    return parse_config(
        {"data": {"images": ["a.tif"]}, "method": method, "train": {"batch_size": batch_size, "epochs": epochs}}
    )


def settings(found):
    method = found.method
    return found.train.epochs, method.pool_size, method.warmup_steps, method.renew_interval


@pytest.mark.parametrize(
    ("images", "epochs", "published"),
    [
        (4545, 10, (1024, 100, 20)),  # Potsdam-3
        (2975 * 5, 30, (2048, 990, 20)),  # Cityscapes-27: published with a warm-up of 50, a 140th of its steps
        (49629 * 5, 3, (2048, 1000, 100)),  # COCO-Stuff-27
    ],
)
def test_the_published_settings_at_the_published_sizes(images, epochs, published):
    found, said = resolve(config(64, epochs, **OPEN), images)
    assert settings(found) == (epochs, *published)
    assert len(said) == 3


def test_epochs_of_the_published_sizes():
    """30 of Cityscapes-27 are no matter of size: three times the images, three times the epochs."""
    assert [epochs_for(images // 64) for images in (4545, 49629 * 5)] == [10, 3]
    assert epochs_for(2975 * 5 // 64) == 3


def test_fifty_images():
    found, said = resolve(config(8, 10, **OPEN), 50)
    assert settings(found) == (10, 50, 8, 3)
    assert said == [
        "reference pools of 50 patches, one an image, from 50 images",
        "warm-up of 8 steps of 60",
        "task-specific pool refilled every 3 steps of an epoch's 6",
    ]
    assert epochs_for(6) == 50


def test_what_is_switched_off_is_told_and_derives_nothing():
    def notes(**switches):
        return resolve(config(8, 10, **OPEN, **switches), 50)[1]

    pools, warmup, interval = notes()
    assert notes(task_specific_positives=False) == ["without task-specific positives", pools]
    assert notes(task_agnostic_positives=False) == ["without task-agnostic positives", pools, interval]
    assert notes(symmetric_positives=False, local_positives=False) == [
        "without symmetric positives, local positives", pools, warmup, interval,
    ]  # fmt: skip
    naive = notes(task_agnostic_positives=False, task_specific_positives=False)
    assert naive == [
        "without task-agnostic positives, task-specific positives",
        "each patch is contrasted with itself in an augmented view alone",
    ]


def test_open_epochs_are_derived():
    open_epochs = config(8, 10, **OPEN)
    open_epochs = open_epochs.model_copy(update={"train": open_epochs.train.model_copy(update={"epochs": None})})
    found, said = resolve(open_epochs, 600)
    assert settings(found) == (9, 600, 96, 20)
    assert said[0] == "9 epochs of 75 steps (600 images in batches of 8)"
    two_devices = open_epochs.train.model_copy(update={"devices": 2})
    assert resolve(open_epochs.model_copy(update={"train": two_devices}), 600)[0].train.epochs == 19


def test_numbers_that_were_given_stay():
    given_all = config(8, 10, pool_size=30, warmup_steps=7, renew_interval=2)
    assert resolve(given_all, 50) == (given_all, [])
    assert resolve(load_config("potsdam3"), 4545) == (load_config("potsdam3"), [])


def test_a_pool_beyond_the_images_shrinks_and_says_so():
    found, said = resolve(config(8, 10, pool_size=1024, warmup_steps=7, renew_interval=2), 50)
    assert found.method.pool_size == 50
    (line,) = said
    assert "50 patches instead of method.pool_size = 1024" in line


def test_settings_without_effect_are_told():
    found, said = resolve(config(8, 2, pool_size=30, warmup_steps=100, renew_interval=20), 50)
    assert settings(found) == (2, 30, 100, 20)
    assert "method.warmup_steps = 100 is all of the 12 steps" in said[0]
    assert "method.renew_interval = 20 is beyond an epoch's 6 steps" in said[1]
    assert "3 would be usual" in said[1]


def test_a_batch_of_everything_is_told():
    _, said = resolve(config(64, 10, **OPEN), 50)
    assert "a train.batch_size of 6 would make it eight" in said[-1]


def test_kmeans_has_nothing_to_derive():
    kmeans = parse_config({"data": {"images": ["a.tif"]}, "method": {"name": "kmeans"}})
    resolved, said = resolve(kmeans, 50)
    assert resolved.method == kmeans.method
    assert said == []


@given(st.integers(1, 10**6), st.integers(1, 512))
def test_they_are_always_usable(images, batch):
    found, said = resolve(config(batch, 5, **OPEN), images)
    epochs, pool, warmup, interval = settings(found)
    steps = max(1, images // batch)
    assert 1 <= pool <= min(images, 2048)
    assert 0 <= warmup < epochs * steps
    assert 1 <= interval <= 100
    assert interval < steps or steps == 1
    assert all("\n" not in line for line in said)
    assert type(found).model_validate(found.model_dump()) == found


def test_they_grow_with_the_data():
    assert [pool_size_for(n) for n in (1, 100, 1024, 8191, 8192, 10**6)] == [1, 100, 1024, 1024, 2048, 2048]
    assert [warmup_for(n) for n in (1, 60, 710, 11631)] == [0, 8, 100, 1000]
    assert [renew_interval_for(n) for n in (1, 2, 6, 71, 232, 3877, 10**5)] == [1, 1, 3, 20, 20, 100, 100]


def test_k_means_takes_no_steps_and_says_what_has_no_effect():
    config = load_config("orthophotos", ["data.images=a.tif"])
    assert resolve(config, 400) == (config, [])
    _, said = resolve(load_config("orthophotos", ["data.images=a.tif", "train.max_steps=150"]), 400)
    assert said == ["method kmeans takes no steps: train.max_steps without effect"]


def test_images_are_not_changed_at_random_where_nothing_is_learned_from_it():
    """Features of such images are kept nowhere, and computed anew for every look."""
    resolved, said = resolve(load_config("orthophotos", ["data.images=a.tif", "train.augment=[flip]"]), 400)
    assert resolved.train.augment == []
    assert said == ["method kmeans takes no steps: train.augment without effect"]
    assert resolve(load_config("orthophotos-hp", ["data.images=a.tif", "train.augment=[flip]"]), 400)[0].train.augment
