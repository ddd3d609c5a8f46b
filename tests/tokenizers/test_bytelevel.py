"""The byte alphabet: a bijection, in the order that published vocabularies have."""

import pytest

from smelt.tokenizers.bytelevel import BYTE_ORDER, BYTE_TO_CHARACTER, from_visible, to_visible


def test_every_byte_has_its_own_character_and_place() -> None:
    assert sorted(BYTE_ORDER) == list(range(256))
    assert len(set(BYTE_TO_CHARACTER.values())) == 256


def test_order_is_that_of_the_characters() -> None:
    characters = [BYTE_TO_CHARACTER[byte] for byte in BYTE_ORDER]
    assert characters == sorted(characters)
    assert (characters[0], characters[93], characters[94], characters[188]) == ("!", "~", "¡", "Ā")


def test_visible_form_of_known_bytes() -> None:
    assert to_visible(b" the\n") == "ĠtheĊ"
    assert to_visible("é".encode()) == "Ã©"
    assert from_visible("ĠtheĊ") == b" the\n"


def test_a_character_that_is_no_byte_is_an_error() -> None:
    with pytest.raises(KeyError):
        from_visible("漢")
