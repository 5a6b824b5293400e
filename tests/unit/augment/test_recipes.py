"""The tables hold the papers' values and agree with what the configuration offers."""

from __future__ import annotations

import pytest

from sce_video.config import PRETRAINING_RECIPES
from sce_video.config.recipes import RECIPES, RandomCrop, RandomResizedCrop, ViewRecipe, find_recipe
from sce_video.config.sections import LABELLED_RECIPES, PretrainAugmentConfig
from sce_video.errors import UsageError
from sce_video.stream.crops import CentreCrop


def row(view: ViewRecipe) -> tuple[object, ...]:
    return (view.jitter, view.strengths, view.gray, view.blur, view.solarize, view.flip)


HALF, FULL, MOCO = (0.4, 0.4, 0.2, 0.1), (0.8, 0.8, 0.4, 0.2), (0.4, 0.4, 0.4, 0.1)
OFF = (0.0, 0.0, 0.0, 0.0)


def asymmetric(strengths: tuple[float, ...]) -> list[tuple[object, ...]]:
    return [(0.8, strengths, 0.2, 1.0, 0.0, 0.5), (0.8, strengths, 0.2, 0.1, 0.2, 0.5)]


@pytest.mark.parametrize(
    ("name", "views", "difference"),
    [
        ("kinetics_strength_0.5", asymmetric(HALF), 0.0),
        ("kinetics_strength_1.0", asymmetric(FULL), 0.2),
        ("imagenet_two_view", asymmetric(HALF), 0.0),
        (
            "imagenet_five_crop",
            asymmetric(HALF) + [(0.8, HALF, 0.2, 0.5, 0.2, 0.5)] * 4,
            0.0,
        ),
        ("moco_v2", [(0.8, MOCO, 0.2, 0.5, 0.0, 0.5)] * 2, 0.0),
        (
            "cifar_weak_strong",
            [(0.0, OFF, 0.0, 0.0, 0.0, 0.5), (0.8, MOCO, 0.2, 0.5, 0.0, 0.5)],
            0.0,
        ),
        (
            "kinetics_weak_strong",
            [(0.0, OFF, 0.0, 0.0, 0.0, 0.5), (0.8, FULL, 0.2, 0.5, 0.0, 0.5)],
            0.2,
        ),
        ("crop_flip", [(0.0, OFF, 0.0, 0.0, 0.0, 0.5)] * 2, 0.0),
        ("video_linear", [(0.0, OFF, 0.0, 0.0, 0.0, 0.5)], 0.0),
        ("video_finetune", [(0.8, MOCO, 0.2, 0.0, 0.0, 0.5)], 0.0),
        ("imagenet_linear", [(0.0, OFF, 0.0, 0.0, 0.0, 0.5)], 0.0),
        ("video_eval", [(0.0, OFF, 0.0, 0.0, 0.0, 0.0)], 0.0),
        ("imagenet_eval", [(0.0, OFF, 0.0, 0.0, 0.0, 0.0)], 0.0),
    ],
)
def test_tables(name: str, views: list[tuple[object, ...]], difference: float) -> None:
    recipe = RECIPES[name]
    assert [row(view) for view in recipe.views] == views
    assert recipe.temporal_difference == difference
    assert all((view.sigma, view.kernel) == ((0.1, 2.0), 23) for view in recipe.views)


def test_every_table_is_tested() -> None:
    marks = test_tables.pytestmark  # type: ignore[attr-defined]
    assert {case[0] for case in marks[0].args[1]} == set(RECIPES)


def test_crops() -> None:
    assert RECIPES["imagenet_five_crop"].crops(224) == (
        (RandomResizedCrop((0.2, 1.0)), 224),
        (RandomResizedCrop((0.2, 1.0)), 224),
        (RandomResizedCrop((0.172, 0.86)), 192),
        (RandomResizedCrop((0.143, 0.715)), 160),
        (RandomResizedCrop((0.114, 0.571)), 128),
        (RandomResizedCrop((0.086, 0.429)), 96),
    )
    for name in ("kinetics_strength_0.5", "kinetics_strength_1.0", "crop_flip"):
        assert RECIPES[name].crops(112) == ((RandomResizedCrop((0.2, 0.766)), 112),) * 2
    for name in ("imagenet_two_view", "moco_v2"):
        assert RECIPES[name].crops(224) == ((RandomResizedCrop((0.2, 1.0)), 224),) * 2
    assert RECIPES["cifar_weak_strong"].crops(32) == ((RandomResizedCrop((0.2, 1.0)), 32),) * 2
    assert RECIPES["imagenet_linear"].crops(224) == ((RandomResizedCrop((0.08, 1.0)), 224),)
    for name in ("video_linear", "video_finetune"):
        assert RECIPES[name].crops(224) == ((RandomCrop((8 / 7, 10 / 7)), 224),)
    assert RECIPES["video_eval"].crops(224) == ((CentreCrop(), 256),)
    assert RECIPES["imagenet_eval"].crops(224) == ((CentreCrop(8 / 7), 224),)


def test_pixels_are_normalised_by_their_data_set() -> None:
    for name, recipe in RECIPES.items():
        mean = 0.485 if "imagenet" in name or "moco" in name else 0.45
        assert recipe.stats[0][0] == (0.4914 if "cifar" in name else mean)


def test_views_too_small_for_their_blur_are_refused() -> None:
    assert RECIPES["kinetics_strength_0.5"].crops(12)
    with pytest.raises(UsageError, match=r"clip.size 11: a view of 11 pixels is too small"):
        RECIPES["kinetics_strength_0.5"].crops(11)
    with pytest.raises(UsageError, match=r"clip.size 24: a view of 10 pixels is too small"):
        RECIPES["imagenet_five_crop"].crops(24)
    assert RECIPES["crop_flip"].crops(8)  # no blur


def test_overrides_replace_the_recipes_own() -> None:
    assert find_recipe("kinetics_strength_1.0") == RECIPES["kinetics_strength_1.0"]
    made = find_recipe("kinetics_strength_1.0", flip=0.0, area=(0.7, 1.0), temporal_difference=0.0)
    assert made.temporal_difference == 0
    for view, old in zip(made.views, RECIPES["kinetics_strength_1.0"].views, strict=True):
        assert (view.flip, view.crop) == (0.0, RandomResizedCrop((0.7, 1.0)))
        assert row(view)[:5] == row(old)[:5]
    (eval_view,) = find_recipe("video_eval", area=(0.7, 1.0)).views
    assert eval_view.crop == CentreCrop()


def test_pretraining_offers_the_recipes_of_several_views() -> None:
    several = {name: len(recipe.views) for name, recipe in RECIPES.items() if len(recipe.views) > 1}
    assert several == PRETRAINING_RECIPES
    assert PretrainAugmentConfig().recipe in RECIPES
    assert set(LABELLED_RECIPES) <= set(RECIPES)
