"""Prints the random orders and placements that the tests expect, computed from ChaCha's definition (8 rounds).

Run: python3 streams.py
"""

import struct

WORD = 0xFFFFFFFF
COLUMNS = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)]
DIAGONALS = [(0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]


def block(key, counter):
    start = [*struct.unpack("<4I", b"expand 32-byte k"), *struct.unpack("<8I", key), counter & WORD, counter >> 32, 0, 0]
    x = list(start)
    for _ in range(4):
        for a, b, c, d in COLUMNS + DIAGONALS:
            for target, source, mixed, bits in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)]:
                x[target] = (x[target] + x[source]) & WORD
                x[mixed] ^= x[target]
                x[mixed] = (x[mixed] << bits | x[mixed] >> (32 - bits)) & WORD
    return struct.pack("<16I", *[(old + new) & WORD for old, new in zip(start, x)])


class Stream:
    """The key is four words: seed, epoch, position, and 0 for orders or 1 for augmentation."""

    def __init__(self, *words):
        self.key, self.counter, self.bytes = struct.pack("<4Q", *words), 0, b""

    def word(self):
        if not self.bytes:
            self.bytes, self.counter = block(self.key, self.counter), self.counter + 1
        (word,) = struct.unpack("<Q", self.bytes[:8])
        self.bytes = self.bytes[8:]
        return word

    def below(self, count):
        while True:
            product = self.word() * count
            if product % 2**64 >= 2**64 % count:
                return product >> 64


def permutation(seed, epoch, count):
    stream, order = Stream(seed, epoch, 0, 0), list(range(count))
    for last in range(count - 1, 0, -1):
        chosen = stream.below(last + 1)
        order[last], order[chosen] = order[chosen], order[last]
    return order


def placement(seed, epoch, position, padding):
    stream = Stream(seed, epoch, position, 1)
    return stream.below(2 * padding + 1), stream.below(2 * padding + 1), stream.word() >> 63 == 1


print("order of seed 1, epoch 2:", permutation(1, 2, 10))
stream = Stream(1, 2, 3, 1)
print("below 9 for seed 1, epoch 2, position 3:", [stream.below(9) for _ in range(8)])
for epoch in 0, 1:
    print(f"placements of seed 0, epoch {epoch}:", [placement(0, epoch, position, 4) for position in range(5)])
