import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.providers.errors import clean
from asyncsvc.providers.keys import KEY, PART, without_keys

SECRET = "9f3kQz.Wm7/pLx+2vTb8Rn4JcHy6Gd"
FORMS = {
    "as it is": SECRET,
    "bearer": f"Bearer {SECRET}",
    "upper case": SECRET.upper(),
    "beginning": SECRET[:14],
    "end": SECRET[-14:],
    "middle": SECRET[8:20],
    "masked": SECRET[:12] + "****" + SECRET[-12:],
    "in two lines": SECRET[:14] + "\n" + SECRET[14:],
    "twice": SECRET + SECRET,
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64 of the header": base64.b64encode(f"Bearer {SECRET}".encode()).decode(),
    "base64 of a user": base64.b64encode(f"ab:{SECRET}".encode()).decode(),
    "base64 for addresses": base64.urlsafe_b64encode(f"x{SECRET}".encode()).decode(),
    "percent": quote(SECRET, safe=""),
    "hexadecimal": SECRET.encode().hex(),
    "backwards": SECRET[::-1],
    "in JSON": f'{{"authorization": "Bearer {SECRET}"}}',
}


@pytest.mark.parametrize("form", FORMS)
def test_no_form_of_a_key_is_shown(form: str) -> None:
    text = FORMS[form]
    shown = clean(f"not allowed: {text} was sent", [SECRET])
    assert KEY in shown
    assert shown.startswith("not allowed:")
    assert shown.endswith("was sent")
    half = len(text) // 2
    assert text[half : half + PART] not in shown
    assert not any(SECRET[at : at + PART] in shown for at in range(len(SECRET) - PART + 1))


def test_words_of_a_provider_stay_as_they_are() -> None:
    text = "the model gpt-x does not exist, or you have no access to it; see https://example.org/a"
    assert clean(text, [SECRET, "short-key"]) == text


@given(st.text(max_size=200), st.integers(0, 20), st.integers(10, 31))
def test_no_part_of_a_key_passes(around: str, start: int, size: int) -> None:
    part = SECRET[start : start + size]
    shown = without_keys(f"{around}{part}{around}", [SECRET])
    assert len(part) < PART or part not in shown


def test_a_key_that_stands_where_the_text_is_cut_is_not_shown() -> None:
    for before in range(440, 520):
        shown = clean("x" * before + " " + SECRET, [SECRET])
        assert SECRET[:PART] not in shown
    assert SECRET[:PART] not in clean("\n" * 100_000 + SECRET, [SECRET])
