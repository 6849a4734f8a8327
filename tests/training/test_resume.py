"""A training that is stopped, in whatever way, goes on from its last checkpoint and ends where it would have."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import geohp
from geohp.errors import ChangedError, ConfigError, DataError, ModelError, OutputError
from geohp.training.loop import merge_metrics

SMALL = [
    "data.patches=24",
    "data.patch_px=64",
    "method.pool_size=24",
    "method.code_channels=16",
    "method.warmup_steps=2",
    "method.renew_interval=2",
    "classes.count=3",
    "train.epochs=3",
    "train.batch_size=4",
    "train.device=cpu",
    "train.checkpoint_minutes=0",
]


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    rng = np.random.default_rng(3)
    colours = np.array([[60, 140, 50], [128, 128, 128], [170, 110, 60]])
    fields = colours[rng.integers(0, 3, (6, 6))].repeat(40, 0).repeat(40, 1)
    path = tmp_path_factory.mktemp("images") / "photograph.png"
    Image.fromarray(np.clip(fields + rng.normal(0, 10, fields.shape), 0, 255).astype(np.uint8)).save(path)
    return path


class Stopped(BaseException):
    """What no code of ours catches."""


def train(photograph, out, *overrides, stop_at=None, **options):
    def progress(stage, done, total, detail=""):
        if stage == "training" and done == stop_at:
            raise Stopped

    settings = [f"data.images={photograph}", *SMALL, *overrides]
    return geohp.train("orthophotos-hp", settings, out=out, progress=progress, **options)


def same(first, second):
    first, second = load_file(first), load_file(second)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


KINDS = {
    "features kept": [],
    "features anew": ["train.cache=off"],
    "augmented": ["train.augment=[flip,colour]", "method.consistency_weight=0.05"],
    "published probe": ["method.refit_probe=false"],
}


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.replace(" ", "-"))
def whole(request, photograph, tmp_path_factory):
    """Settings, and a run that was never stopped."""
    settings = KINDS[request.param]
    return settings, train(photograph, tmp_path_factory.mktemp("whole") / "run", *settings)


# Within an epoch, at its last step, at the first step of the next one, and at the very last step.
@pytest.mark.parametrize("step", [2, 6, 7, 18])
def test_stopped_at_any_step_it_ends_at_the_same_weights(photograph, whole, tmp_path, step):
    settings, run = whole
    if settings and step in (2, 18):
        pytest.skip("how a training ends and begins does not depend on where features come from")
    with pytest.raises(Stopped) as stopped:
        train(photograph, tmp_path / "run", *settings, stop_at=step)
    kept = getattr(stopped.value, "__notes__", [])
    assert any("goes on from there" in note for note in kept) == (step > 1)
    steps = []
    again = geohp.train(
        resume=tmp_path / "run",
        progress=lambda stage, done, total, detail="": steps.append(done) if stage == "training" else None,
    )
    assert steps[0] == step
    assert same(run.model, again.model)
    assert (run.folder / "metrics.csv").read_text() == (again.folder / "metrics.csv").read_text()
    assert {p.name for p in again.folder.iterdir()} == {p.name for p in run.folder.iterdir()}


def test_killed_it_goes_on(photograph, tmp_path):
    settings = [f"--set={s}" for s in [f"data.images={photograph}", *SMALL]]
    command = [sys.executable, "-m", "geohp", "train", "orthophotos-hp", *settings, "--out"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    checkpoint = tmp_path / "run" / "unfinished" / "checkpoint.ckpt"
    process = subprocess.Popen([*command, str(tmp_path / "run")], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 600
    while not checkpoint.is_file() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    if process.returncode == 0:
        pytest.skip("it was too fast to be killed")
    assert not (tmp_path / "run" / "model.safetensors").exists()
    with pytest.raises(ModelError, match="go on training"):
        geohp.Segmenter.load(tmp_path / "run")
    resumed = [sys.executable, "-m", "geohp", "train", "--resume", str(tmp_path / "run")]
    done = subprocess.run(resumed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert same(tmp_path / "whole" / "model.safetensors", tmp_path / "run" / "model.safetensors")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["interrupt", "termination"])
def test_an_interrupt_is_one_and_keeps_the_run(photograph, tmp_path, number):
    def progress(stage, done, total, detail=""):
        if stage == "training" and done == 5:
            os.kill(os.getpid(), number)

    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    settings = [f"data.images={photograph}", *SMALL, "train.checkpoint_minutes=10"]
    with pytest.raises(KeyboardInterrupt) as stopped:
        geohp.train("orthophotos-hp", settings, out=tmp_path / "run", progress=progress)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    state = torch.load(tmp_path / "run" / "unfinished" / "checkpoint.ckpt", weights_only=True)["geohp"]
    assert state["steps_done"] == 5
    assert "goes on from there" in stopped.value.__notes__[0]
    geohp.train(resume=tmp_path / "run")


def test_a_signal_saves_the_step_at_hand_and_says_how_to_go_on(photograph, tmp_path):
    """Without it nothing would be there to go on from: the first checkpoint is far."""
    settings = [*SMALL, "train.checkpoint_minutes=10", "train.max_steps=100000", "train.epochs=2"]
    settings = [f"--set={s}" for s in [f"data.images={photograph}", *settings, "data.patches=4000", "train.cache=off"]]
    run = tmp_path / "a run"
    command = [sys.executable, "-m", "geohp", "train", "orthophotos-hp", *settings, "--out", str(run)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    metrics = run / "unfinished" / "0" / "metrics.csv"
    until = time.monotonic() + 600
    while not metrics.is_file() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "Traceback" not in said
    assert said.splitlines()[-2:] == [
        "geohp: interrupted",
        f"geohp: {run}: kept up to its last checkpoint; geohp train --resume '{run}' goes on from there",
    ]
    state = torch.load(run / "unfinished" / "checkpoint.ckpt", weights_only=True)["geohp"]
    assert 0 < state["steps_done"] < state["total_steps"]
    steps = []

    def stop(stage, done, total, detail=""):
        if stage == "training":
            steps.append(done)
            raise Stopped

    with pytest.raises(Stopped):
        geohp.train(resume=run, progress=stop)
    assert steps == [state["steps_done"] + 1]


def test_what_fails_before_the_first_step_leaves_nothing(photograph, tmp_path):
    with pytest.raises(DataError):
        train(photograph, tmp_path / "run", "classes.count=250", "data.patches=1", "data.patch_px=32")
    assert not (tmp_path / "run").exists()


def test_a_sweep_that_cannot_be_made_is_refused_before_anything_is_trained(photograph, tmp_path):
    with pytest.raises(DataError, match="needs at least 5, not 4"):
        train(photograph, tmp_path / "run", "data.patches=4", sweep="classes=2..3", stop_at=1)
    with pytest.raises(DataError, match="99 classes cannot be told apart in 64 patches"):
        train(photograph, tmp_path / "run", "data.patches=5", sweep="classes=99", stop_at=1)
    assert not (tmp_path / "run").exists()


def test_finished_missing_and_foreign_runs_are_refused(photograph, tmp_path):
    run = train(photograph, tmp_path / "run", "train.epochs=1")
    with pytest.raises(ConfigError, match="is finished"):
        geohp.train(resume=run.folder)
    with pytest.raises(ConfigError, match="no unfinished run"):
        geohp.train(resume=tmp_path)
    with pytest.raises(ConfigError, match="its own configuration"):
        geohp.train("orthophotos-hp", resume=run.folder)
    with pytest.raises(ConfigError, match="no configuration"):
        geohp.train()


def test_a_damaged_checkpoint_is_one_sentence(photograph, tmp_path):
    with pytest.raises(Stopped):
        train(photograph, tmp_path / "run", stop_at=8)
    checkpoint = tmp_path / "run" / "unfinished" / "checkpoint.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ModelError, match="the checkpoint is damaged"):
        geohp.train(resume=tmp_path / "run")


def test_changed_images_are_noticed(photograph, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    copy = images / "a.png"
    copy.write_bytes(photograph.read_bytes())
    with pytest.raises(Stopped):
        train(copy, tmp_path / "run", stop_at=8)
    with Image.open(copy) as image:
        image.rotate(90).save(copy)
    os.utime(copy, (1, 1))
    with pytest.raises(ModelError, match="other images"):
        geohp.train(resume=tmp_path / "run")


def test_two_at_once_are_kept_apart(photograph, tmp_path):
    from geohp.files.locks import FolderLock

    with pytest.raises(Stopped):
        train(photograph, tmp_path / "run", stop_at=8)
    lock = FolderLock(tmp_path / "run" / "unfinished")
    with pytest.raises(OutputError, match="in use by another run"):
        geohp.train(resume=tmp_path / "run")
    lock.release()
    geohp.train(resume=tmp_path / "run")


def test_trainings_of_the_same_second_have_folders_of_their_own(photograph, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda *_: "20260401-101112")
    with pytest.raises(Stopped):  # the others begin while it is at work, or stopped
        train(photograph, None, stop_at=8)
    runs = [train(photograph, None, "train.epochs=1").folder.as_posix() for _ in range(2)]
    name = "runs/orthophotos-hp-20260401-101112"
    assert runs == [f"{name}-2", f"{name}-3"]
    assert (tmp_path / name / "unfinished" / "checkpoint.ckpt").is_file()


@pytest.mark.parametrize("occupied", ["a file", "a link that leads nowhere"])
def test_where_no_runs_can_be_kept_is_one_sentence(photograph, tmp_path, monkeypatch, occupied):
    monkeypatch.chdir(tmp_path)
    Path("runs").write_text("mine") if occupied == "a file" else Path("runs").symlink_to("nowhere/at/all")
    with pytest.raises(OutputError, match="cannot be written to"):
        train(photograph, None)
    assert os.path.lexists("runs")


def test_metrics_of_several_attempts_are_one_table(tmp_path):
    parts = [tmp_path / name for name in ("0.csv", "1.csv", "2.csv")]
    parts[0].write_text("loss,step\n1,0\n2,1\n3,2\n4")
    parts[2].write_text("extra,loss,step\n9,22,1\n9,33,2\n")
    merge_metrics(parts, tmp_path / "all.csv")
    assert Path(tmp_path / "all.csv").read_text() == "extra,loss,step\n,1,0\n9,22,1\n9,33,2\n"
    merge_metrics([], tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").exists()


@pytest.mark.parametrize(
    "damaged", [b"\xc9\xff,\n", b"loss\n1\n", b"loss,step\n1,2,3,4\n", "loss,step\n1,²\n".encode(), b"\0" * 100]
)
def test_metrics_that_a_disk_has_damaged_are_left_out(tmp_path, damaged):
    (tmp_path / "0.csv").write_bytes(damaged)
    (tmp_path / "1.csv").write_text("loss,step\n1,0\n")
    merge_metrics([tmp_path / "0.csv", tmp_path / "1.csv"], tmp_path / "all.csv")
    assert "1,0" in (tmp_path / "all.csv").read_text()


def test_a_full_disk_keeps_the_checkpoint_before(photograph, tmp_path, monkeypatch):
    import lightning as L

    whole = train(photograph, tmp_path / "whole")
    plain, saved = L.Trainer.save_checkpoint, []

    def save(trainer, path, *rest):
        saved.append(path)
        if len(saved) == 8:
            Path(path).write_bytes(b"half of it")
            raise OSError(28, "No space left on device")
        plain(trainer, path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(L.Trainer, "save_checkpoint", save)
        with pytest.raises(OutputError, match="No space left") as stopped:
            train(photograph, tmp_path / "run")
    assert "goes on from there" in stopped.value.__notes__[0]
    assert {p.name for p in (tmp_path / "run" / "unfinished").iterdir()} == {
        "0",
        "checkpoint.ckpt",
        "config.yaml",
        "lock",
    }
    assert same(whole.model, geohp.train(resume=tmp_path / "run").model)


def test_a_sweep_is_gone_on_with_even_from_its_end(photograph, tmp_path, monkeypatch):
    whole = train(photograph, tmp_path / "whole", "data.patches=40", "train.epochs=1", sweep="classes=2..4")

    def fails(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("geohp.training.report.write_run_report", fails)
        with pytest.raises(OutputError, match="No space left"):
            train(photograph, tmp_path / "run", "data.patches=40", "train.epochs=1", sweep="classes=2..4")
    again = geohp.train(resume=tmp_path / "run")
    assert same(whole.model, again.model)
    assert (whole.folder / "config.yaml").read_text() == (again.folder / "config.yaml").read_text()


def test_killed_before_its_first_checkpoint_the_same_command_begins_anew(photograph, tmp_path):
    out = tmp_path / "run"
    whole = train(photograph, tmp_path / "whole")
    (out / "unfinished").mkdir(parents=True)  # as kill -9 leaves it
    (out / "unfinished" / "lock").touch()
    (out / "unfinished" / "0").mkdir()
    (out / "config.yaml").write_text("half a conf")
    run = train(photograph, out)
    assert same(run.model, whole.model)
    assert {p.name for p in run.folder.iterdir()} == {p.name for p in whole.folder.iterdir()}


def test_what_a_killed_training_wrote_is_not_taken_for_the_next_one_s(photograph, tmp_path):
    settings = ["method.name=kmeans", "method.restarts=1", f"data.images={photograph}", *SMALL[:2], "train.device=cpu"]
    out = tmp_path / "run"
    out.mkdir()
    for name in ("scores.csv", "sweep.csv", "sweep.png", "metrics.csv", "loss.png"):
        (out / name).write_text("of before")
    (out / "unfinished").mkdir()
    run = geohp.train("orthophotos", settings, out=out)
    assert {path.name for path in run.folder.iterdir()} == {
        "config.yaml", "model.safetensors", "report.html", "samples.png",
    }  # fmt: skip


@pytest.mark.parametrize("model", [False, True])
def test_folders_of_others_that_are_called_unfinished_stay(photograph, tmp_path, model):
    for own, foreign in (("a", "unfinished/thesis.odt"), ("b", "holiday.jpg")):
        out = tmp_path / own
        (out / "unfinished").mkdir(parents=True)
        (out / foreign).write_text("years of work")
        if model:
            (out / "model.safetensors").write_text("of somebody")
        with pytest.raises(OutputError, match="exists already"):
            train(photograph, out, stop_at=1)
        with pytest.raises(ConfigError):
            geohp.train(resume=out)
        assert (out / foreign).read_text() == "years of work"


def test_killed_after_a_checkpoint_the_same_command_says_how_to_go_on(photograph, tmp_path):
    with pytest.raises(Stopped):
        train(photograph, tmp_path / "run", stop_at=3)
    with pytest.raises(OutputError, match=r"holds a training that was stopped; resume=.*run.* goes on with it"):
        train(photograph, tmp_path / "run")


def test_killed_at_its_very_end_a_run_is_tidied_up(photograph, tmp_path):
    run = train(photograph, tmp_path / "run")
    (run.folder / "unfinished").mkdir()
    (run.folder / "unfinished" / "checkpoint.ckpt").write_bytes(b"kept")
    (run.folder / ".model.safetensors.geohp").mkdir()
    (run.folder / ".model.safetensors.geohp" / "ordinary").touch()
    with pytest.raises(ConfigError, match="is finished"):
        geohp.train(resume=run.folder)
    assert not (run.folder / "unfinished").exists()
    assert not (run.folder / ".model.safetensors.geohp").exists()
    with pytest.raises(OutputError, match="exists already"):
        train(photograph, run.folder)


def test_killed_as_it_wrote_the_last_files_it_goes_on_with_the_configuration_it_began_with(photograph, tmp_path):
    with pytest.raises(Stopped):
        train(photograph, tmp_path / "run", stop_at=3)
    (tmp_path / "run" / "config.yaml").write_text("half a conf")
    run = geohp.train(resume=tmp_path / "run")
    assert same(run.model, train(photograph, tmp_path / "whole").model)


def test_torch_s_word_for_a_full_disk_is_made_a_sentence(photograph, tmp_path, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")

    monkeypatch.setattr("lightning.Trainer.save_checkpoint", full)
    with pytest.raises(OutputError, match=r"checkpoint.ckpt could not be written"):
        train(photograph, tmp_path / "run")


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("surveying images", []),
        ("computing features", ["train.cache=memory"]),
        ("computing features", ["train.cache=disk"]),
        ("training", ["train.cache=off"]),
    ],
)
def test_images_that_change_while_they_are_read_give_no_model(photograph, tmp_path, stage, settings):
    image, features = tmp_path / "photograph.png", tmp_path / "features"
    image.write_bytes(photograph.read_bytes())

    def progress(reached, done, total, detail=""):
        if reached == stage and done > 0:
            os.utime(image, ns=(1, 1))

    overrides = [f"data.images={image}", *SMALL, *settings, f"train.cache_dir={features}"]
    with pytest.raises(ChangedError, match="training data has changed while it was read"):
        geohp.train("orthophotos-hp", overrides, out=tmp_path / "run", progress=progress)
    assert not (tmp_path / "run").exists()
    assert not list(features.rglob("*.safetensors"))


def replace_by_a_smaller(image):
    other = image.with_name("other")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(other, "PNG")
    other.replace(image)


@pytest.mark.parametrize("change", [replace_by_a_smaller, lambda image: image.write_bytes(image.read_bytes()[:1000])])
def test_what_comes_of_images_that_change_once_surveyed_is_told_as_a_change(photograph, tmp_path, change):
    """Not that they cannot be read, though they cannot: smaller than where patches lie, or cut."""
    image = tmp_path / "photograph.png"
    image.write_bytes(photograph.read_bytes())

    def progress(stage, done, total, detail=""):
        if stage == "surveying images":
            change(image)

    with pytest.raises(ChangedError, match=r"training data has changed while it was read \(.*photograph.png\)"):
        geohp.train("orthophotos-hp", [f"data.images={image}", *SMALL], out=tmp_path / "run", progress=progress)
    assert not (tmp_path / "run").exists()


def test_images_that_are_gone_for_a_while_cost_no_checkpoint(photograph, tmp_path):
    image, beside = tmp_path / "photograph.png", tmp_path / "beside"
    image.write_bytes(photograph.read_bytes())

    def progress(stage, done, total, detail=""):
        if stage == "training" and done == 4:
            image.rename(beside)  # as with a disk that is taken away
            raise DataError("1 of 24 images cannot be read")

    with pytest.raises(DataError, match="images cannot be read"):
        geohp.train("orthophotos-hp", [f"data.images={image}", *SMALL], out=tmp_path / "run", progress=progress)
    beside.rename(image)
    assert geohp.train(resume=tmp_path / "run").model.is_file()


def test_labels_to_score_on_that_change_while_they_are_surveyed_give_no_model(photograph, tmp_path):
    image, labels = tmp_path / "photograph.png", tmp_path / "photograph_labels.png"
    image.write_bytes(photograph.read_bytes())
    Image.fromarray(np.repeat([0, 1], 120)[None].repeat(240, 0).astype(np.uint8)).save(labels)

    def progress(stage, done, total, detail=""):
        if stage == "surveying labelled images":
            os.utime(labels, ns=(1, 1))

    overrides = [f"data.images={image}", f"data.labels={labels.with_stem('{stem}_labels')}", *SMALL]
    with pytest.raises(ChangedError, match=r"photograph_labels\.png"):
        geohp.train("orthophotos-hp", [*overrides, "train.score_every=2"], out=tmp_path / "run", progress=progress)
