"""Training lengths."""

import pytest

from runner.config.length import Length


def test_epochs_and_iterations():
    assert Length.parse("30ep").steps(10) == 300
    assert Length.parse("500it").steps(10) == 500
    assert Length.parse("500it") == Length(500, "it")


@pytest.mark.parametrize(
    "text", ["", "30", "ep", "0ep", "-3ep", "+3ep", "3.5ep", "3 ep", "3EP", "3ep ", "03ep", "3it\n"]
)
def test_what_is_no_length(text):
    with pytest.raises(ValueError, match="expected a positive whole number of epochs or iterations: 30ep, 500it"):
        Length.parse(text)
