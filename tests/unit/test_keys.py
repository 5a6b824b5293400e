"""The list of keys: complete, described, and the same on the page of the configurations.

``python -m tests.unit.test_keys`` remakes the page's table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from sce_video.config.base import section_of
from sce_video.config.keys import Key, configs, keys, keys_markdown
from sce_video.config.load import flat, load_config
from sce_video.config.objectives import OBJECTIVES
from sce_video.config.recipes import RECIPES, recipe_names
from sce_video.config.tasks import TASKS
from sce_video.config.trunks import TRUNKS
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "configs" / "README.md"
BEGIN, END = "<!-- keys -->\n", "<!-- /keys -->"


def sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        if section := section_of(field.annotation):
            yield from sections(section)


@pytest.mark.parametrize("kind", [*TASKS, *OBJECTIVES])
def test_every_key_says_what_it_means(kind: str) -> None:
    for section in sections({**TASKS, **OBJECTIVES}[kind]):
        for name, field in section.model_fields.items():
            chooses = section in OBJECTIVES.values() and name == "name"
            if not section_of(field.annotation) and not chooses:
                assert field.description, f"{section.__name__}.{name}"
    for key in keys():
        assert len(key.description.split()) <= 25, key


def test_the_list_holds_the_keys_of_every_configuration() -> None:
    listed = {(task, key.objective, key.name) for key in keys() for task in key.tasks}
    for path, _ in configs():
        config = load_config(path)
        objective = getattr(config, "objective", None)
        for name in flat(config.model_dump(mode="json")):
            kinds = {"", objective.name} if objective else {""}
            assert any((config.task, kind, name) in listed for kind in kinds), (path, name)


@pytest.mark.parametrize(
    "expected",
    [
        Key("optim.name", "lars | sgd | adamw", "lars", "the optimizer", tuple(TASKS)),
        Key("train.epochs", "int >= 1", "200", "passes over the samples", tuple(TASKS)),
        Key(
            "augment.aspect",
            "[float 0.01 to 100, float 0.01 to 100] | null",
            "null",
            "least and most width / height of that crop; null = the recipe's",
            tuple(TASKS),
        ),
        Key(
            "model.predictor.norm",
            "true | false",
            "true",
            "BN before each ReLU; false = a bias instead",
            ("pretrain",),
        ),
        Key(
            "head.dropout",
            "float >= 0, < 1",
            "0",
            "probability that an input of the layer is left out",
            ("linear", "finetune"),
        ),
        Key(
            "objective.coeff",
            "float 0 to 1",
            "0.5",
            "weight of the positive in the target",
            ("pretrain",),
            "sce",
        ),
    ],
    ids=lambda key: key.name,
)
def test_types_and_defaults_are_in_words(expected: Key) -> None:
    assert expected in keys()


def test_a_default_that_tasks_differ_in_is_there_for_each() -> None:
    found = {(key.tasks, key.default) for key in keys() if key.name == "augment.recipe"}
    assert found == {(("pretrain",), "kinetics_strength_0.5"), (("linear", "finetune"), "")}


def test_the_page_has_the_keys() -> None:
    found = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    assert found == keys_markdown(), "remake the page: python -m tests.unit.test_keys"


def test_the_page_names_every_configuration_and_each_says_what_it_is() -> None:
    page = PAGE.read_text()
    for path, about in configs():
        assert re.search(r"[.)]$", about), f"{path}: the first line is no sentence: {about}"
        task, _, name = path.rpartition("/")
        given = path if not task else name.removesuffix(".yaml")
        assert re.search(rf"`({task}/)?{re.escape(given)}`", page), path


def test_the_page_has_a_row_for_every_trunk_objective_and_recipe() -> None:
    page = PAGE.read_text()
    for name, known in TRUNKS.items():
        [row] = re.findall(rf"^\| `{name}` \|.*$", page, re.MULTILINE)
        assert f"| {known.features} | {known.parameters:,} | {known.whose}" in row
        assert ("ours" in row) == (not known.same)
    for name in OBJECTIVES:
        assert re.search(rf"^\| `{name}` \|", page, re.MULTILINE), name
    for name in recipe_names(labelled=False):
        assert re.search(rf"^\| .*`{name}`.* \| {len(RECIPES[name].views)} \|", page, re.MULTILINE)


def test_cells_are_short() -> None:
    for line in PAGE.read_text().splitlines():
        if line.startswith("|"):
            for cell in re.split(r"(?<!\\)\|", line):
                assert len(cell.split()) <= 25, cell


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + keys_markdown() + rest[rest.index(END) :])
