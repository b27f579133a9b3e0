"""Finds the texts that are near to a query. A text becomes a vector of hashed
words, pairs of words and pieces of words; near means a large cosine."""

import heapq
import math
import re
import zlib

import replica

DIMENSIONS = 1 << 14
WORD, PAIR, PIECE = 1.0, 0.7, 0.35  # what each kind of feature weighs
LEAST = 0.03  # of a cosine that is more than chance
STOP = frozenset(
    "a about an and are as at be but by can do does for from has have how i if in into is it its of on or "
    "so than that the their them then there these they this to was what when where which who why will with you your".split()
)


def words(text):
    return re.findall(r"\w+", text.lower())


def features(text):
    """Yields the features of a text, with their weights."""
    kept = [word for word in words(text) if word not in STOP]
    for word in kept:
        yield "w " + word, WORD
        padded = f"<{word}>"
        for size in (3, 4, 5):
            for start in range(len(padded) - size + 1):
                yield "p " + padded[start:start + size], PIECE
    for left, right in zip(kept, kept[1:]):
        yield f"b {left} {right}", PAIR


def embed(text):
    """Returns the vector of a text, of length 1, as {index: value}. The hash
    also gives the sign, so that features that share an index cancel rather
    than add up. It is CRC-32, because Python's own differs in each process."""
    counts = {}
    for name, weight in features(text):
        count, _ = counts.get(name, (0, weight))
        counts[name] = count + 1, weight
    vector = {}
    for name, (count, weight) in counts.items():
        code = zlib.crc32(name.encode())
        sign = 1 if code & 0x80000000 else -1
        index = code % DIMENSIONS
        vector[index] = vector.get(index, 0.0) + sign * weight * (1 + math.log(count))
    length = math.sqrt(sum(value * value for value in vector.values()))
    return {index: value / length for index, value in vector.items()} if length else {}


def cosine(a, b):
    if len(b) < len(a):
        a, b = b, a
    return sum(value * b[index] for index, value in a.items() if index in b)


class Index:
    def __init__(self, texts):
        self.vectors = [(text["id"], embed(text["title"] + ". " + text["text"])) for text in texts]

    def nearest(self, query, most):
        vector = embed(query)
        near = ((cosine(vector, other), id) for id, other in self.vectors)
        best = heapq.nsmallest(most, ((-value, id) for value, id in near if value >= LEAST))
        return [{"id": id, "cosine": round(-value, 6)} for value, id in best]


def main():
    index = Index(replica.beside("corpus.json"))

    def nearest(request):
        body = request.body
        if not isinstance(body, dict) or not isinstance(body.get("query"), str):
            raise replica.Refusal(400, 'send {"query": "...", "n": 20}')
        most = body.get("n", 20)
        if not isinstance(most, int) or isinstance(most, bool) or not 1 <= most <= 100:
            raise replica.Refusal(400, "n is a number from 1 to 100")
        return {"candidates": index.nearest(body["query"], most), **replica.whoami()}

    replica.serve({("POST", "/nearest"): nearest})


if __name__ == "__main__":
    main()
