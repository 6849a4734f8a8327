"""The configuration: strict, helpful, and found from anywhere."""

import pytest
import yaml

from geohp.classes import default_classes
from geohp.config.experiment import Config
from geohp.config.loading import dump_config, find_config, load_config, packaged_configs, parse_config
from geohp.errors import ConfigError
from geohp.methods.factory import METHODS

MINIMAL = {"data": {"images": ["a.tif"]}}


def test_every_packaged_configuration_is_valid():
    assert {"orthophotos.yaml", "potsdam3.yaml", "quickstart.yaml"} <= set(packaged_configs())
    for path in packaged_configs().values():
        assert isinstance(load_config(path), Config)


def test_bare_names_are_found_from_any_folder_and_own_files_win(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("potsdam3.yaml") == find_config("potsdam3") == packaged_configs()["potsdam3.yaml"]
    (tmp_path / "potsdam3.yaml").write_text("name: mine\ndata: {images: x.tif}\n")
    assert load_config("potsdam3.yaml").name == "mine"


def test_potsdam3_carries_the_published_settings():
    config = load_config("potsdam3.yaml")
    method = config.method
    assert (method.code_channels, method.temperature, method.keep_rate) == (256, 0.4, 1.0)
    assert (method.pool_size, method.ema_momentum, method.warmup_steps, method.renew_interval) == (1024, 0.999, 100, 20)
    assert (config.train.epochs, config.train.batch_size, config.classes.count) == (10, 64, 3)
    rates = method.learning_rates
    assert (rates.head, rates.projection, rates.cluster_probe, rates.weight_decay) == (5e-4, 5e-4, 5e-3, 0.1)


def test_round_trip_through_yaml(tmp_path):
    config = load_config("quickstart", ["data.images=[a.tif,b.tif]", "train.epochs=3", "method.temperature=5e-1"])
    assert config.train.epochs == 3
    assert config.method.temperature == 0.5
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config


def test_method_defaults_to_hp_and_can_be_kmeans():
    assert parse_config({**MINIMAL, "method": {"temperature": 0.7}}).method.name == "hp"
    assert parse_config({**MINIMAL, "method": {"name": "kmeans", "restarts": 2}}).method.restarts == 2


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({**MINIMAL, "trian": {}}, "unknown key 'trian', did you mean 'train'?"),
        ({**MINIMAL, "train": {"epoch": 3}}, "unknown key 'train.epoch', did you mean 'epochs'?"),
        ({**MINIMAL, "method": {"name": "hp", "temprature": 1.0}}, "'method.temprature', did you mean 'temperature'?"),
        (
            {**MINIMAL, "method": {"learning_rates": {"haed": 1.0}}},
            "'method.learning_rates.haed', did you mean 'head'?",
        ),
        # What is known of a method is what can be set, none of its own constants.
        (
            {**MINIMAL, "method": {"name": "kmeans", "temperature": 1.0}},
            "'method.temperature': kmeans has none, it belongs to method.name=hp (as in orthophotos-hp.yaml) or",
        ),
        ({**MINIMAL, "train": {"epochs": 0}}, "train.epochs = 0"),
        ({**MINIMAL, "train": {"epochs": "many"}}, 'train.epochs = "many"'),
        ({**MINIMAL, "train": {"epochs": True}}, "train.epochs = true"),
        ({**MINIMAL, "method": {"temperature": -1.0}}, "method.temperature = -1.0"),
        ({**MINIMAL, "method": {"name": "hpp"}}, "method.name must be one of hp, kmeans, maskcontrast, probes, stego"),
        ({**MINIMAL, "classes": {"count": 3, "names": ["a"]}}, "names has 1 entries for 3 classes"),
        ({**MINIMAL, "classes": {"count": 2, "colours": ["red", "#000000"]}}, "'red' is not of the form #rrggbb"),
        ({**MINIMAL, "classes": {"count": 200, "extra_clusters": 60}}, "260"),
        ({**MINIMAL, "classes": {"count": 3, "extra_clusters": -1}}, "classes.extra_clusters = -1"),
        ({"name": "x"}, "key 'data' is missing"),
        ({"data": {"images": []}}, "data.images"),
        ({"data": {"images": ["a"], "patch_px": "auto"}, "backbone": {"name": ["rcf"]}}, 'backbone.name = ["rcf"]'),
        ({"data": {"images": ["a"], "patch_px": "auto"}, "backbone": {"options": [1]}}, "backbone.options = [1]"),
        ({"data": {"images": ["a"]}, "backbone": {"name": "auto", "options": [1]}}, "backbone.options = [1]"),
        ({"data": {"images": ["a"]}, "backbone": {"name": "auto", "options": 1}}, "backbone.options = 1"),
        (
            {**MINIMAL, "backbone": {"options": {"block": 2}}},
            "options: block is no further argument, but a key of its own",
        ),
        ({**MINIMAL, "train": {"seed": 2**32}}, "train.seed = 4294967296"),
        ({**MINIMAL, "train": {"checkpoint_minutes": float("inf")}}, "train.checkpoint_minutes = Infinity"),
        ({**MINIMAL, "method": {"temperature": float("nan")}}, "method.temperature = NaN"),
        ({**MINIMAL, "classes": {"count": 2, "names": ["a\nb", "c"]}}, "line break or control character"),
        ({**MINIMAL, "classes": {"count": 2, "names": ["a ", "a"]}}, "names: 'a' comes twice"),
        ({**MINIMAL, "classes": {"count": 2, "names": ["", "a"]}}, "names: one is empty"),
        ({"data": {"images": ["a"], "patch_px": 10**9}}, "data.patch_px = 1000000000"),
    ],
)
def test_mistakes_name_the_key(document, said):
    with pytest.raises(ConfigError) as caught:
        parse_config(document, "mine.yaml")
    assert str(caught.value).startswith("mine.yaml: ")
    assert said in str(caught.value)


def test_messages_stay_short_whatever_the_value():
    many = {f"k{i}": 1 for i in range(5_000)}
    for document in ({**MINIMAL, "train": {"epochs": ["y" * 10_000] * 1_000}}, {**MINIMAL, **many}):
        with pytest.raises(ConfigError) as caught:
            parse_config(document)
        assert len(str(caught.value)) < 2_000


@pytest.mark.parametrize("name", ["1e4", "no", "1.5"])
def test_names_that_look_like_other_things_survive(tmp_path, name):
    config = parse_config({**MINIMAL, "name": name})
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize("override", ["method.name=[hp]", "method.name={a: 1}", "method={name: [hp]}"])
def test_a_method_that_is_no_name_is_refused(tmp_path, override):
    (tmp_path / "c.yaml").write_text("data: {images: [a]}\nmethod: {name: hp}\n")
    with pytest.raises(ConfigError, match=r"method\.name must be one of"):
        load_config(tmp_path / "c.yaml", [override])
    (tmp_path / "d.yaml").write_text("data: {images: [a]}\nmethod: {name: [hp]}\n")
    with pytest.raises(ConfigError, match=r"method\.name must be one of"):
        load_config(tmp_path / "d.yaml")


@pytest.mark.parametrize(
    ("content", "said"), [("a: [", "not valid YAML at line"), ("", "holds no keys"), ("- 1", "holds no keys")]
)
def test_files_that_are_no_configuration(tmp_path, content, said):
    (tmp_path / "bad.yaml").write_text(content)
    with pytest.raises(ConfigError, match=said):
        load_config(tmp_path / "bad.yaml")


def test_nothing_in_a_file_is_evaluated(tmp_path):
    (tmp_path / "evil.yaml").write_text("name: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(tmp_path / "evil.yaml")


def test_a_missing_file_names_what_there_is(tmp_path):
    with pytest.raises(ConfigError, match=r"orthophotos.yaml.*did you mean 'potsdam3.yaml'\?"):
        find_config("potsdam.yaml")
    with pytest.raises(ConfigError, match=r"is a folder; .*overrides=.data.images="):
        find_config(tmp_path)


def test_extra_clusters_are_classes_of_their_own():
    classes = {"count": 2, "extra_clusters": 2, "names": ["roof", "tree"], "colours": ["#44AA99", "#000000"]}
    config = parse_config({**MINIMAL, "classes": classes}).classes
    assert (config.count, config.clusters) == (2, 4)
    assert [entry.name for entry in config.described()] == ["roof", "tree", "class 2", "class 3"]
    colours = [entry.colour.lower() for entry in config.described()]
    assert colours[:2] == ["#44aa99", "#000000"]
    assert len(set(colours)) == 4
    assert [entry.id for entry in config.described()] == [0, 1, 2, 3]
    plain = parse_config(MINIMAL).classes
    assert plain.described() == default_classes(6)


def test_numbers_may_be_left_to_the_data():
    open_ = parse_config({**MINIMAL, "method": {"pool_size": "auto", "warmup_steps": None}})
    assert (open_.method.pool_size, open_.method.warmup_steps) == (None, None)
    with pytest.raises(ConfigError, match=r"method.pool_size = .automatic"):
        parse_config({**MINIMAL, "method": {"pool_size": "automatic"}})


@pytest.mark.parametrize("override", ["train.epochs", "=3", "train.=3", "name.x=1", "train.epochs=[1"])
def test_overrides_that_cannot_be_read(override):
    with pytest.raises(ConfigError, match="overrides="):
        load_config("potsdam3", [override])


def test_off_is_a_word_and_false_is_not():
    config = load_config("orthophotos-hp", ["train.cache=off", "method.reweight=false", "train.deterministic=true"])
    assert config.train.cache == "off"
    assert config.method.reweight is False
    assert config.train.deterministic is True
    assert parse_config(yaml.safe_load(dump_config(config))) == config


def test_ones_own_imagery_by_hp_is_the_default_but_for_the_method():
    usual, hp = load_config("orthophotos"), load_config("orthophotos-hp")
    assert usual.method == METHODS["kmeans"][0]()
    assert (hp.method.name, hp.method.code_channels, hp.method.ema_momentum) == ("hp", 128, 0.99)
    assert hp.model_copy(update={"name": usual.name, "method": usual.method}) == usual


@pytest.mark.parametrize("name", ["potsdam3", "cocostuff27", "cityscapes27", "orthophotos-hp", "quickstart"])
@pytest.mark.parametrize("method", ["kmeans", "maskcontrast", "probes", "stego"])
def test_another_method_leaves_the_settings_of_the_former_one(name, method, caplog):
    caplog.set_level("INFO", "geohp")
    config = load_config(name, [f"method.name={method}"])
    assert config.method == METHODS[method][0]()
    assert f"method {method}: left out method.code_channels, method.temperature" in caplog.text


def test_what_is_said_of_the_new_method_stays_and_what_no_method_knows_is_refused(tmp_path, caplog):
    caplog.set_level("INFO", "geohp")
    config = load_config("potsdam3", ["method.code_channels=30", "method.name=stego", "method.self_shift=0.3"])
    assert (config.method.name, config.method.code_channels, config.method.self_shift) == ("stego", 30, 0.3)
    assert config.method.learning_rates.cluster_probe == 5e-3
    with pytest.raises(ConfigError, match=r"unknown key 'method.self_shfit', did you mean 'self_shift'"):
        load_config("potsdam3", ["method.name=stego", "method.self_shfit=0.3"])
    with pytest.raises(ConfigError, match=r"unknown key 'method.temperature'"):
        load_config("potsdam3", ["method.name=stego", "method.temperature=0.3"])
    with pytest.raises(ConfigError, match=r"method\.name must be one of"):
        load_config("potsdam3", ["method.name=stegoo"])
    (tmp_path / "mine.yaml").write_text("data: {images: a.tif}\nmethod: {name: stego, temperature: 0.4, samples: 5}\n")
    caplog.clear()
    assert load_config(tmp_path / "mine.yaml").method.samples == 5
    assert "left out method.temperature," in caplog.text
    (tmp_path / "mine.yaml").write_text("data: {images: a.tif}\nmethod: {temprature: 0.4, code_channels: 9}\n")
    for overrides in ([], ["method.name=stego"]):
        with pytest.raises(ConfigError, match=r"unknown key 'method.temprature'"):
            load_config(tmp_path / "mine.yaml", overrides)
    caplog.clear()
    assert load_config("potsdam3").method.code_channels == 256
    assert not caplog.text


@pytest.mark.parametrize(
    ("config", "override", "said"),
    [
        ("orthophotos", "method.pool_size=9", "'method.pool_size': kmeans has none, it belongs to method.name=hp "
         "(as in orthophotos-hp.yaml)"),
        ("orthophotos", "method.random_shift=1", "kmeans has none, it belongs to method.name=stego"),
        ("orthophotos", "method.tmperature=1", "did you mean 'temperature' of method.name=hp (as in "
         "orthophotos-hp.yaml) or method.name=maskcontrast (as in maskcontrast.yaml)"),
        ("potsdam3", "method.standardise=true", "hp has none, it belongs to method.name=kmeans"),
        ("potsdam3", "data.patches=3", "potsdam has none, it belongs to data.source=orthophotos (as in"),
        ("orthophotos", "method.restart=3", "'method.restart', did you mean 'restarts'?"),
        ("orthophotos", "method.nonsense=3", "'method.nonsense' (known here: name, standardise"),
    ],
)  # fmt: skip
def test_a_key_of_another_method_says_whose_it_is_and_how_to_choose_that(config, override, said):
    with pytest.raises(ConfigError) as caught:
        load_config(config, [override])
    assert said in str(caught.value)
    assert "--" not in str(caught.value)


def test_whose_a_key_is_is_said_beside_other_mistakes():
    with pytest.raises(ConfigError, match=r"data = 5: .*'method.warmup_steps': kmeans has none, it belongs to"):
        load_config("orthophotos", ["data=5", "method.warmup_steps=2"])
