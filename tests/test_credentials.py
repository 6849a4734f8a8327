"""Addresses in texts without what gives access to them."""

import json
import pickle

import pytest

from geohp.config.loading import dump_config, parse_config, public_config
from geohp.credentials import without_credentials
from geohp.errors import SceneError


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("https://host/a.tif", "https://host/a.tif"),
        ("https://host/a.tif?X-Amz-Date=1&X-Amz-Signature=a%2Fb", "https://host/a.tif?X-Amz-Date=***&X-Amz-Signature=***"),
        ("https://user:pa%2Fss@host:80/a.tif is gone", "https://***@host:80/a.tif is gone"),
        ("/vsicurl/https://host/a.tif?token=abc==", "/vsicurl/https://host/a.tif?token=***"),
        ("/vsicurl?header.X=secret&url=https%3A%2F%2Fhost", "/vsicurl?header.X=***&url=***"),
        ("['https://u:p@h/a.tif?x=1', 'b']", "['https://***@h/a.tif?x=***', 'b']"),
        ("https:/user:pass@host/a.tif?sig=x", "https:/***@host/a.tif?sig=***"),
        ("https://token@host/a.tif", "https://***@host/a.tif"),
        ("a.tif?sig=x%2Fy, band 1: failed", "a.tif?sig=***, band 1: failed"),
        ("vsicurl?header.X=y%2Fz&url=http%3A%2F%2Fh, band 1", "vsicurl?header.X=***&url=***, band 1"),
        ("is it a.tif? or b=c", "is it a.tif? or b=c"),
        ("https://host/a.tif?secret", "https://host/a.tif?***"),
        ("C:/data/a.tif, is it there? a=b", "C:/data/a.tif, is it there? a=b"),
        ("user@host:/data, s3://bucket/key@2x.tif", "user@host:/data, s3://bucket/key@2x.tif"),
    ],
)  # fmt: skip
def test_user_password_and_values_of_queries_are_hidden(text, public):
    assert without_credentials(text) == public
    assert without_credentials(public) == public
    assert json.loads(without_credentials(json.dumps({"a": text}))) == {"a": public}


def test_errors_never_hold_them():
    error = SceneError(
        "https://h/a?sig=secret cannot be read", "try {option}", option="model", value="https://u:secret@h/"
    )
    for shown in (error, pickle.loads(pickle.dumps(error))):
        assert "secret" not in f"{shown} {shown!r} {shown.args} {vars(shown)}"
        assert "https://h/a?sig=*** cannot be read" in str(shown)


def test_configurations_are_passed_on_without_them():
    address = "https://user:secret@h/a.tif?sig=secret"
    config = parse_config({"data": {"images": [address, "b.tif"]}})
    assert address in dump_config(config)
    assert public_config(config)["data"]["images"] == ["https://***@h/a.tif?sig=***", "b.tif"]
