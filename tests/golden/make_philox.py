"""Philox4x32-10: the published known answers, and a longer stream by an implementation checked against them.

Run as `python tests/golden/make_philox.py` from the project root.
"""

import sys

sys.path.append(sys.path.pop(0))  # No neighbour of this script may stand in for a standard module.

import numpy as np

from golden import FOLDER, versions, write_json

# Random123 (D. E. Shaw Research), tests/kat_vectors, the lines "philox4x32": rounds, counter, key, answer.
PUBLISHED = """
7  00000000 00000000 00000000 00000000 00000000 00000000 5f6fb709 0d893f64 4f121f81 4f730a48
7  ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff 5207ddc2 45165e59 4d8ee751 8c52f662
7  243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0 4dfccaba 190a87f0 c47362ba b6b5242a
10 00000000 00000000 00000000 00000000 00000000 00000000 6627e8d5 e169c58d bc57ac4c 9b00dbd8
10 ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff 408f276d 41c83b0e a20bc7c6 6d5451fd
10 243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0 d16cfe09 94fdcceb 5001e420 24126ea1
"""
MULTIPLIERS, WEYL, MASK = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85), 0xFFFFFFFF


def philox(counter, key, rounds=10):
    """Four 32-bit words from four counter words and two key words (Salmon et al. 2011, section 3.3)."""
    c, k = list(counter), list(key)
    for _ in range(rounds):
        left, right = MULTIPLIERS[0] * c[0], MULTIPLIERS[1] * c[2]
        c = [(right >> 32) ^ c[1] ^ k[0], right & MASK, (left >> 32) ^ c[3] ^ k[1], left & MASK]
        k = [(word + step) & MASK for word, step in zip(k, WEYL)]
    return c


def philox_arrays(counters, key, rounds=10):
    """The same law on 64-bit arrays, keys computed ahead: [n, 4] in and out."""
    c = counters.astype(np.uint64).T
    for r in range(rounds):
        bumped = [np.uint64((word + r * step) & MASK) for word, step in zip(key, WEYL)]
        left, right = c[0] * np.uint64(MULTIPLIERS[0]), c[2] * np.uint64(MULTIPLIERS[1])
        shift, mask = np.uint64(32), np.uint64(MASK)
        c = np.stack([right >> shift ^ c[1] ^ bumped[0], right & mask, left >> shift ^ c[3] ^ bumped[1], left & mask])
    return c.T


def published():
    """The known answers, each met by both implementations."""
    cases = []
    for line in PUBLISHED.strip().splitlines():
        rounds, *words = line.split()
        rounds, words = int(rounds), [int(word, 16) for word in words]
        counter, key, answer = words[:4], words[4:6], words[6:]
        assert philox(counter, key, rounds) == answer, line
        assert philox_arrays(np.array([counter]), key, rounds)[0].tolist() == answer, line
        cases.append({"rounds": rounds, "counter": counter, "key": key, "answer": answer})
    return cases


def streams():
    """Consecutive counters across a carry of each word, under two keys."""
    starts = [[0, 0, 0, 0], [MASK - 1, 0, 0, 0], [MASK, MASK, 0, 7], [5, 0, 3, 1 << 31]]
    found = []
    for key in ([0x12345678, 0x9ABCDEF0], [1, 0]):
        for start in starts:
            value = sum(word << (32 * i) for i, word in enumerate(start))
            counters = [[(value + n) >> (32 * i) & MASK for i in range(4)] for n in range(4)]
            answers = [philox(counter, key) for counter in counters]
            assert philox_arrays(np.array(counters), key).tolist() == answers
            found.append({"key": key, "counters": counters, "answers": answers})
    return found


if __name__ == "__main__":
    write_json(FOLDER / "philox.json", {"versions": versions("numpy"), "published": published(), "streams": streams()})
