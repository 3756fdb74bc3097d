import pytest

from pipeline.config.overrides import parse_overrides, quote_override
from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    "text, expected",
    [
        ("seed", "seed is no override; expected key=value, such as seed=1"),
        ("=3", "=3 names no key"),
        ("a b=3", "  a b=3\n   ^\n  a key is made of names and dots"),
        ("model.widths=[1,2", "  model.widths=[1,2\n                   ^\n  [ is not closed by ]"),
        ("name={", "{ is not closed by }"),
        ('name="x', 'the quotation mark " is not closed'),
        ("name=(x)", "  name=(x)\n       ^\n  a value with special characters is quoted twice:  'name=\"(x)\"'"),
        ("name=a=b", "  name=a=b\n        ^"),
        ("data.root=~/x", "  data.root=~/x\n            ^"),
        ("name=a`b", "'name=\"a`b\"'"),
        ("data.root=a(b)", "'data.root=\"a(b)\"'"),
        (
            "seed=1,2",
            "seed=1,2 is several values, and one run takes one\n  to train with each  pipeline search seed=1,2",
        ),
        ("seed=choice(1,2)", "seed=choice(1,2) stands for several values"),
        ("seed=range(1,3)", "seed=range(1,3) stands for several values"),
        ("optimizer.learning_rate=interval(0,1)", "stands for several values"),
    ],
)
def test_what_cannot_be_read_is_shown_with_its_place_and_remedy(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_overrides([text])
    assert expected in str(caught.value)


@pytest.mark.parametrize("value", ["a,b", "~/x y", "it's", 'say "hi"', "$HOME `id`", "[", "é", "a\\"])
def test_the_quoting_that_is_proposed_gives_the_value_back(value: str) -> None:
    import shlex

    (typed,) = shlex.split(quote_override(f"name={value}"))
    assert parse_overrides([typed])[0].value() == value
