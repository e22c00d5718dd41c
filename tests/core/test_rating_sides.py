"""The rules of a rating are the same for both sides: what holds for the node in a rating holds for the client in its mirror image."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from aihd.core.rating import MARGIN, mark_of, may_commit, may_reveal, omission
from aihd.protocol.boxes import Rating
from aihd.protocol.plans import Side

COMMITMENTS = st.sampled_from([b"", b"c" * 32])
RATINGS = st.builds(
    Rating,
    client=st.just(b"\2" * 33),
    node=st.just(b"\3" * 33),
    worth=st.just(10**9),
    commit_deadline=st.just(100),
    reveal_deadline=st.just(160),
    client_commitment=COMMITMENTS,
    node_commitment=COMMITMENTS,
    client_mark=st.integers(0, 5),
    node_mark=st.integers(0, 5),
)


def mirrored(rating: Rating) -> Rating:
    return replace(
        rating,
        client_commitment=rating.node_commitment,
        node_commitment=rating.client_commitment,
        client_mark=rating.node_mark,
        node_mark=rating.client_mark,
    )


@given(RATINGS, st.integers(90, 170))
def test_rating__when__seen_in_the_mirror__then__each_side_may_what_the_other_may(rating: Rating, height: int) -> None:
    image = mirrored(rating)
    earlier = MARGIN[Side.CLIENT] - MARGIN[Side.NODE]  # all that sets the two apart
    assert may_commit(rating, Side.CLIENT, height) == may_commit(image, Side.NODE, height + earlier)
    assert may_reveal(rating, Side.CLIENT, height) == may_reveal(image, Side.NODE, height)
    assert mark_of(rating, Side.CLIENT) == mark_of(image, Side.NODE)
    assert omission(rating, Side.CLIENT).replace("node", "client") == omission(image, Side.NODE)
