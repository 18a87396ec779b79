"""Vectors that no model has are refused before they are checked, stored and sent."""

from base64 import b64encode

import pytest

from asyncsvc.errors import UpstreamInvalid
from asyncsvc.providers.answers.embeddings import VECTOR_MOST, embeddings_in


def test_the_longest_vector_is_taken() -> None:
    found = embeddings_in({"data": [{"embedding": [1] * VECTOR_MOST}]}, 1)
    assert len(found.vectors[0]) == VECTOR_MOST


@pytest.mark.parametrize(
    "given",
    [[0.5] * (VECTOR_MOST + 1), b64encode(bytes(4 * (VECTOR_MOST + 1))).decode()],
    ids=["numbers", "base64"],
)
def test_a_vector_of_more_numbers_is_refused(given: object) -> None:
    with pytest.raises(UpstreamInvalid, match=f"has {VECTOR_MOST + 1} numbers"):
        embeddings_in({"data": [{"embedding": given}]}, 1)
