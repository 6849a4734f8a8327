"""What an evaluation does where nothing is asked for."""

from dataclasses import fields

from geohp.evaluation.options import EvaluationOptions
from geohp.progress import default_progress


def test_by_default_the_models_own_data_are_judged_on_without_crf_or_report():
    options = EvaluationOptions()
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    assert type(values.pop("progress")) is type(default_progress())
    assert values == {
        "data": None, "overrides": (), "crf": False, "tta": None, "report": None, "overwrite": False, "weights": None,
        "device": "auto", "batch_size": 16, "workers": 0,
    }  # fmt: skip
