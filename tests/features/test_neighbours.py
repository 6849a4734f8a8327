"""Similar images: found as by all pairs at once, drawn evenly, the same wherever features come from."""

import pytest
import torch
import torch.nn.functional as F

from geohp.errors import DataError
from geohp.features import neighbours
from geohp.features.filling import CacheOptions
from geohp.features.neighbours import NearestImages, mean_features, nearest_rows


@pytest.mark.parametrize("chunk", [1, 70, 10_000])
def test_the_nearest_others_whatever_is_compared_at_once(chunk, monkeypatch):
    monkeypatch.setattr(neighbours, "_CHUNK", chunk)
    rows = F.normalize(torch.randn(23, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    expected = (rows @ rows.T).fill_diagonal_(-2).argsort(1, descending=True)[:, :4]
    assert torch.equal(nearest_rows(rows, 4), expected)
    rows[7] = rows[3]  # two copies are each other's nearest, and none is its own
    nearest = nearest_rows(rows, 1)[:, 0]
    assert (nearest[3], nearest[7]) == (7, 3)


def test_mean_features_are_unit_vectors_in_the_order_of_the_images(squares, make_source):
    source = make_source(squares(10))
    expected = [source.encode(source.images[index]["image"][None]).features.mean((2, 3)) for index in range(10)]
    seen = []
    rows = mean_features(source, lambda stage, done, total, detail="": seen.append((done, total)))
    torch.testing.assert_close(rows, F.normalize(torch.cat(expected), dim=1))
    assert seen[-1] == (10, 10)


@pytest.fixture(params=["kept", "anew"])
def source(request, squares, make_source):
    if request.param == "anew":
        return make_source(squares(12))
    source = make_source(squares(120, broken=[3]))
    assert source.cache(CacheOptions("memory", 1e9))
    return source


def test_a_similar_image_is_drawn_for_each_of_a_batch(source):
    nearest = NearestImages(source, 3, seed=5)
    assert nearest.nearest.shape == (len(source), 3)
    batch = next(iter(source.batches()))
    places = source.places(batch["index"])
    state, drawn = nearest.state(), []
    for _ in range(12):
        maps = nearest.draw(batch["index"])
        assert maps.shape == source.patches(batch).features.shape
        for row, own in zip(maps, places.tolist(), strict=True):
            (which,) = (
                place
                for place in nearest.nearest[own].tolist()
                if torch.equal(row, next(source.maps(torch.tensor([place])))[0])
            )
            drawn.append((own, which))
    assert len(set(drawn)) == 3 * len(batch["index"])
    first = nearest.draw(batch["index"])
    nearest.restore(state)
    nearest.draw(batch["index"])
    for _ in range(11):
        nearest.draw(batch["index"])
    assert torch.equal(nearest.draw(batch["index"]), first)


def test_kept_and_computed_features_give_the_same_neighbours(squares, make_source):
    kept, anew = make_source(squares(200, broken=[3])), make_source(squares(200, broken=[3]))
    assert kept.cache(CacheOptions("memory", 1e9))
    assert len(kept) == 199
    index = torch.tensor([0, 4, 199])
    assert kept.places(index).tolist() == [0, 3, 198]
    assert anew.places(index).tolist() == [0, 4, 199]
    clean_kept, clean_anew = make_source(squares(30)), make_source(squares(30))
    clean_kept.cache(CacheOptions("memory", 1e9))
    first, second = (NearestImages(each, 4, seed=1) for each in (clean_kept, clean_anew))
    assert torch.equal(first.nearest, second.nearest)
    index = torch.tensor([5, 0, 29, 5])
    assert torch.equal(first.draw(index), second.draw(index))


def test_few_images_have_few_neighbours_and_a_single_one_has_none(squares, make_source):
    assert NearestImages(make_source(squares(3)), 7).nearest.shape == (3, 2)
    with pytest.raises(DataError, match="single image"):
        NearestImages(make_source(squares(1)), 7)
