"""Which points of a curve MLflow gets: no more than a screen shows, since each costs 250 bytes."""

DENSE_POINTS = 256  # of a curve, which are all there


def is_kept(point: int) -> bool:
    """Whether the point of this number, from 1, is logged: all at the begin, later every second,
    fourth ..., so that a curve twice as long has 128 more. The number alone decides, and so does
    not change where a curve goes on that was interrupted."""
    return point % (1 << ((point - 1) // DENSE_POINTS).bit_length()) == 0
