"""Points of secp256k1 in affine coordinates, for checking proofs: a multiplication takes about 6 ms.

Not in constant time and not for secrets.
"""

from __future__ import annotations

Point = tuple[int, int] | None  # None is the point at infinity

FIELD = 2**256 - 2**32 - 977
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
GENERATOR: Point = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)


def add(a: Point, b: Point) -> Point:
    """The sum of two points."""
    if a is None or b is None:
        return a or b
    if a[0] != b[0]:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, FIELD)
    elif (a[1] + b[1]) % FIELD == 0:
        return None
    else:
        slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, FIELD)
    x = (slope * slope - a[0] - b[0]) % FIELD
    return x, (slope * (a[0] - x) - a[1]) % FIELD


def multiply(point: Point, factor: int) -> Point:
    """`factor` times the point; a negative factor gives the inverse."""
    factor %= ORDER
    result: Point = None
    while factor:
        if factor & 1:
            result = add(result, point)
        point = add(point, point)
        factor >>= 1
    return result


def decode(data: bytes) -> Point:
    """A compressed point (33 bytes, all zero for infinity); ValueError where it is not on the curve."""
    if data == bytes(33):
        return None
    x = int.from_bytes(data[1:], "big")
    square = (x * x * x + 7) % FIELD
    y = pow(square, (FIELD + 1) // 4, FIELD)
    if data[0] not in (2, 3) or y * y % FIELD != square:
        raise ValueError(f"{data.hex()} is not a point of secp256k1")
    return x, y if y & 1 == data[0] & 1 else FIELD - y


def encode(point: Point) -> bytes:
    """The compressed form (33 bytes)."""
    if point is None:
        return bytes(33)
    return bytes([2 + (point[1] & 1)]) + point[0].to_bytes(32, "big")
