"""The tables hold the papers' values and agree with what the configuration offers."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sce_video.config.recipes import (
    RECIPES,
    RandomCrop,
    RandomResizedCrop,
    ViewRecipe,
    recipe_names,
)
from sce_video.config.sections import (
    AugmentConfig,
    LabelledAugmentConfig,
    PretrainAugmentConfig,
)
from sce_video.errors import UsageError


def row(view: ViewRecipe) -> tuple[object, ...]:
    return (view.jitter, view.strengths, view.gray, view.blur, view.solarize, view.flip)


HALF, FULL, MOCO = (0.4, 0.4, 0.2, 0.1), (0.8, 0.8, 0.4, 0.2), (0.4, 0.4, 0.4, 0.1)
OFF = (0.0, 0.0, 0.0, 0.0)


def asymmetric(strengths: tuple[float, ...]) -> list[tuple[object, ...]]:
    return [(0.8, strengths, 0.2, 1.0, 0.0, 0.5), (0.8, strengths, 0.2, 0.1, 0.2, 0.5)]


TABLES: list[tuple[str, list[tuple[object, ...]], float]] = [
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
]
"""Recipe, its views, and the probability of a temporal difference."""


@pytest.mark.parametrize(("name", "views", "difference"), TABLES, ids=[name for name, *_ in TABLES])
def test_tables(name: str, views: list[tuple[object, ...]], difference: float) -> None:
    recipe = RECIPES[name]
    assert [row(view) for view in recipe.views] == views
    assert recipe.temporal_difference == difference
    assert all((view.sigma, view.kernel) == ((0.1, 2.0), 23) for view in recipe.views)


def test_every_table_is_tested() -> None:
    assert {name for name, *_ in TABLES} == set(RECIPES)


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
    name = "kinetics_strength_1.0"
    assert AugmentConfig(recipe=name).find_recipe() == RECIPES[name]
    given = AugmentConfig(recipe=name, flip=0.0, area=(0.7, 1.0), temporal_difference=0.0)
    made = given.find_recipe()
    assert made.temporal_difference == 0
    for view, old in zip(made.views, RECIPES[name].views, strict=True):
        assert (view.flip, view.crop) == (0.0, RandomResizedCrop((0.7, 1.0)))
        assert row(view)[:5] == row(old)[:5]
    linear = AugmentConfig(recipe="video_linear", area=(0.7, 1.0)).find_recipe()
    assert linear == RECIPES["video_linear"]  # no random resized crop


def test_recipes_of_several_views_pretrain_and_those_of_one_train_with_labels() -> None:
    several = [name for name, recipe in RECIPES.items() if len(recipe.views) > 1]
    assert recipe_names(labelled=False) == several
    assert sorted([*several, *recipe_names(labelled=True)]) == sorted(RECIPES)
    assert PretrainAugmentConfig().recipe in several


def test_a_recipe_is_refused_where_it_does_not_belong() -> None:
    with pytest.raises(ValidationError, match="'video_linear' does not pretrain; take one of kin"):
        PretrainAugmentConfig(recipe="video_linear")
    with pytest.raises(ValidationError, match="'moco_v2' is not for labels; take one of video_lin"):
        LabelledAugmentConfig(recipe="moco_v2")
    for name in ("video_linear", "video_finetune"):
        with pytest.raises(ValidationError, match="has no random resized crop"):
            LabelledAugmentConfig(recipe=name, area=(0.2, 1.0))
    assert LabelledAugmentConfig(recipe="imagenet_linear", area=(0.2, 1.0)).area == (0.2, 1.0)
