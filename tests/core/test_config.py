from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from smelt.core.config import Config, load_recipe, merge, parse_yaml, set_path, to_yaml
from smelt.core.errors import ConfigError


class Optimizer(Config):
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak rate."""
    betas: tuple[float, ...] = (0.9, 0.95)


class Recipe(Config):
    name: str
    steps: int | None = None
    minutes: float | None = None
    compile: Literal["auto", "yes", "no"] = "auto"
    checkpointing: bool = False
    optimizer: Optimizer = Optimizer()
    second: Optimizer | None = None

    @model_validator(mode="after")
    def one_length(self) -> "Recipe":
        if self.steps is not None and self.minutes is not None:
            raise ValueError("give one of steps and minutes")
        return self


def recipe_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_then_file_then_overrides(tmp_path: Path) -> None:
    path = recipe_file(tmp_path, "name: file\nsteps: 10\noptimizer:\n  learning_rate: 0.5\n")
    defaults = {"steps": 5, "optimizer": {"learning_rate": 0.1, "betas": [0.5]}}
    recipe = load_recipe(Recipe, path, ["name=word", "optimizer.learning_rate=1e-4"], defaults=defaults)
    assert recipe.name == "word"
    assert recipe.steps == 10
    assert recipe.optimizer == Optimizer(learning_rate=1e-4, betas=(0.5,))


def test_overrides_leave_the_defaults_alone() -> None:
    """Nested mappings were once shared with the caller, so that one run's override reached the next."""
    defaults = {"name": "a", "second": {"learning_rate": 1.0}, "optimizer": {"learning_rate": 1.0}}
    deep: dict[str, Any] = {"a": {"b": {"c": 1}}}
    load_recipe(Recipe, None, ["optimizer.learning_rate=9", "second.learning_rate=9"], defaults=defaults)
    values: dict[str, Any] = {}
    merge(values, deep)
    set_path(values, "a.b.c", 2)
    assert defaults["optimizer"] == defaults["second"] == {"learning_rate": 1.0}
    assert deep == {"a": {"b": {"c": 1}}}


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Recipe(name="a").steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("word", "field", "value"),
    [
        ("compile=yes", "compile", "yes"),
        ("compile=no", "compile", "no"),
        ("name=2024-01-01", "name", "2024-01-01"),
        ("name=on", "name", "on"),
        ("name=a=b", "name", "a=b"),
        ("name=", "name", ""),
        ("checkpointing=true", "checkpointing", True),
        ("checkpointing=yes", "checkpointing", True),
        ("checkpointing=False", "checkpointing", False),
        ("steps=null", "steps", None),
        ("steps=1_000", "steps", 1000),
        ("optimizer.betas=[0.1, 0.2]", "optimizer", Optimizer(betas=(0.1, 0.2))),
        ("optimizer={learning_rate: 2}", "optimizer", Optimizer(learning_rate=2)),
        ("second.learning_rate=2", "second", Optimizer(learning_rate=2)),
    ],
)
def test_override_values(word: str, field: str, value: object) -> None:
    assert getattr(load_recipe(Recipe, None, ["name=run", word]), field) == value


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(name="yes", compile="no", steps=3),
        Recipe(name="2024-01-01", optimizer=Optimizer(learning_rate=1e-5)),
        Recipe(name="Füße 中文: #1", second=Optimizer()),
        Recipe(name="1e-3"),
        Recipe(name="12"),
    ],
)
def test_a_written_recipe_is_itself_a_recipe(recipe: Recipe, tmp_path: Path) -> None:
    assert load_recipe(Recipe, recipe_file(tmp_path, to_yaml(recipe))) == recipe
    assert list(parse_yaml(to_yaml(recipe))) == list(Recipe.model_fields)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nane=a"], "unknown key 'nane'. Did you mean 'name'?\naccepted: in the recipe: name, steps, minutes"),
        (["optimizer.learnin_rate=1"], "unknown key 'optimizer.learnin_rate'. Did you mean 'learning_rate'?"),
        (["optimizer.learnin_rate=1"], "accepted: in optimizer: learning_rate, betas"),
        (["second.lr=1"], "accepted: in second: learning_rate, betas"),
        (["steps=many"], "steps='many': input should be a valid integer"),
        (["optimizer.learning_rate=-1"], "optimizer.learning_rate=-1: input should be greater than 0"),
        (["optimizer.learning_rate=fast"], "optimizer.learning_rate='fast': input should be a valid number"),
        (["compile=maybe"], "compile='maybe': input should be 'auto', 'yes' or 'no'"),
        (["name"], "'name' is not a setting\naccepted: key.path=value"),
        (["=3"], "'=3' is not a setting"),
        (["steps=[1"], "'steps=[1': the value cannot be read"),
        (["name.x=1", "name=3"], "name=3: input should be a valid string"),
        (["name=a", "name.x=1"], "'name.x': 'name' is a value, not a group of settings"),
        (["steps=1", "minutes=2"], "the command line: the recipe: give one of steps and minutes"),
    ],
)
def test_a_bad_setting_is_named_with_its_path(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(Recipe, None, words, defaults={} if words[0].startswith("name") else {"name": "run"})
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


def test_a_missing_key_says_how_to_give_it() -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(Recipe)
    assert str(caught.value) == "the command line: 'name' is required\ntry: add name=VALUE"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nstepz: 3\n", "recipe.yaml: unknown key 'stepz'. Did you mean 'steps'?"),
        ("- a\n- b\n", "recipe.yaml: holds a list\naccepted: a mapping of keys to values"),
        ("name: [\n", "recipe.yaml: not readable as YAML: while parsing"),
        ("name: a\nname: b\n", "the key 'name' is given twice"),
        ("optimizer:\n  learning_rate: 1\n  learning_rate: 2\n", "the key 'learning_rate' is given twice"),
        ("name: !!python/object/apply:os.getcwd []\n", "not readable as YAML: could not determine a constructor"),
    ],
)
def test_a_bad_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(Recipe, recipe_file(tmp_path, text))
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_recipe(Recipe, tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"name: \xff")
    with pytest.raises(ConfigError, match="not readable as YAML"):
        load_recipe(Recipe, tmp_path / "binary.yaml")


def test_an_empty_file_is_a_recipe_of_defaults(tmp_path: Path) -> None:
    assert load_recipe(Recipe, recipe_file(tmp_path, "# nothing\n"), ["name=a"]) == Recipe(name="a")


def test_both_origins_are_named_where_either_may_be_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.yaml and the command line: unknown key 'stepz'"):
        load_recipe(Recipe, recipe_file(tmp_path, "name: a\n"), ["stepz=1"])


def test_a_docstring_below_a_field_describes_it() -> None:
    assert Optimizer.model_fields["learning_rate"].description == "Peak rate."
