"""Pages: taken, shared, kept for later, and reused the longest unused first."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smelt.infer.pages import Pages, page_names


def fill(pages: Pages, tokens: list[int]) -> list[int]:
    """Hold a text as the engine does: find what is there, take the rest, name what is full."""
    found = pages.find(tokens)
    taken = pages.take(pages.count_for(len(tokens)) - len(found))
    assert taken is not None
    held = found + taken
    for page, name in zip(held, page_names(tokens, pages.page_tokens), strict=False):
        pages.name(page, name)
    return held


def test_a_text_that_begins_alike_finds_full_pages():
    pages = Pages(8, 2)
    first = fill(pages, [1, 2, 3, 4, 5])
    assert len(first) == 3
    assert pages.find([1, 2, 3, 4, 9]) == first[:2]
    assert pages.find([1, 2, 9, 4, 5]) == first[:1]
    assert pages.find([2, 1]) == []
    assert pages.references[first[0]] == 3


def test_the_last_token_is_never_found():
    pages = Pages(8, 2)
    held = fill(pages, [1, 2, 3, 4])
    assert pages.find([1, 2, 3, 4]) == held[:1]
    assert pages.find([1, 2, 3, 4, 5]) == held


def test_an_equal_page_in_another_place_is_another_page():
    pages = Pages(8, 2)
    fill(pages, [1, 2, 1, 2, 7])
    names = list(page_names([1, 2, 1, 2], 2))
    assert len(set(names)) == 2
    assert names[1:] == list(page_names([1, 2, 1, 2], 2, names[0], 2))


def test_what_is_released_is_kept_until_the_room_is_wanted():
    pages = Pages(4, 2)
    old, new = fill(pages, [1, 2, 3, 4]), fill(pages, [5, 6, 7, 8])
    pages.release(old)
    pages.release(new)
    assert pages.num_free == 4
    pages.check([])
    taken = pages.take(1)
    assert taken == old[1:], "of the text unused the longest, the end goes first"
    found = pages.find([5, 6, 7, 8, 9])
    assert found == new
    assert pages.find([1, 2, 3, 4, 5]) == old[:1]
    pages.check([taken, found, old[:1]])


def test_more_than_is_free_is_not_taken_in_part():
    pages = Pages(2, 2)
    assert pages.take(3) is None
    assert pages.num_free == 2


@pytest.mark.parametrize("fault", ["lost", "doubled", "stolen"])
def test_the_check_sees_faults(fault):
    pages = Pages(4, 2)
    held = fill(pages, [1, 2, 3])
    if fault == "lost":
        pages.references[3] = 1
    elif fault == "doubled":
        pages._blank.append(held[1])
    else:
        held = [held[0], held[0]]
    with pytest.raises(AssertionError):
        pages.check([held])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 1), min_size=1, max_size=9)), max_size=30))
def test_pages_partition_the_memory_after_any_schedule(events):
    pages, held = Pages(12, 2), []
    for arrives, tokens in events:
        if arrives and pages.num_free >= pages.count_for(len(tokens)):
            held.append(fill(pages, tokens))
        elif held:
            pages.release(held.pop(len(tokens) % len(held)))
        pages.check(held)
    for one in held:
        pages.release(one)
    assert pages.num_free == 12
