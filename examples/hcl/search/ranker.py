"""Puts candidates in order: BM25 over words, blended with the cosine that the
embedder found. See Robertson and Zaragoza, "The Probabilistic Relevance
Framework: BM25 and Beyond", 2009."""

import json
import math
import os
import re

import replica

K1, B = 1.2, 0.75
TITLE = 2  # how many times a title counts
SNIPPET = 160  # characters


def stem(word):
    """Returns a word without the endings that matter least: star, stars."""
    for ending, least in (("ies", 5), ("ing", 6), ("ed", 5), ("es", 5), ("s", 4)):
        if word.endswith(ending) and len(word) >= least and not word.endswith("ss"):
            return word[:-len(ending)] + ("y" if ending == "ies" else "")
    return word[:-1] if word.endswith("e") and len(word) >= 4 else word


def terms(text):
    return [stem(word) for word in re.findall(r"\w+", text.lower())]


class Ranker:
    def __init__(self, texts, weight):
        self.weight = weight
        self.texts = {text["id"]: text for text in texts}
        self.counts = {}
        documents = {}
        for id, text in self.texts.items():
            counts = {}
            for term in terms(text["title"]) * TITLE + terms(text["text"]):
                counts[term] = counts.get(term, 0) + 1
            self.counts[id] = counts
            for term in counts:
                documents[term] = documents.get(term, 0) + 1
        total = len(self.texts)
        self.rarity = {term: math.log(1 + (total - n + 0.5) / (n + 0.5)) for term, n in documents.items()}
        self.lengths = {id: sum(counts.values()) for id, counts in self.counts.items()}
        self.mean = sum(self.lengths.values()) / max(1, total)

    def bm25(self, query, id):
        counts, long = self.counts[id], self.lengths[id] / self.mean
        score = 0.0
        for term in sorted(set(query)):
            count = counts.get(term, 0)
            score += self.rarity.get(term, 0.0) * count * (K1 + 1) / (count + K1 * (1 - B + B * long))
        return score

    def rank(self, query, candidates):
        """Returns the candidates, best first. Each score is from 0 to 1."""
        query_terms = terms(query)
        scored = [(self.bm25(query_terms, id), cosine, id) for id, cosine in candidates if id in self.texts]
        best = max((score for score, _, _ in scored), default=0.0) or 1.0
        blended = [(self.weight * score / best + (1 - self.weight) * cosine, id) for score, cosine, id in scored]
        return [
            {"id": id, "title": self.texts[id]["title"], "score": round(score, 4), "snippet": self.snippet(query_terms, id)}
            for score, id in sorted(blended, key=lambda pair: (-pair[0], pair[1]))
        ]

    def snippet(self, query_terms, id):
        """Returns the sentence that has the most of the query."""
        sentences = re.split(r"(?<=[.!?]) +", self.texts[id]["text"])
        wanted = set(query_terms)
        sentence = max(sentences, key=lambda s: sum(self.rarity.get(term, 0.0) for term in wanted.intersection(terms(s))))
        if len(sentence) <= SNIPPET:
            return sentence
        return sentence[:SNIPPET].rsplit(" ", 1)[0] + " ..."


def weight():
    """Returns the user_config's bm25_weight, from 0 to 1."""
    path = os.environ.get("SERVE_USER_CONFIG")
    if not path:
        return 0.6
    with open(path, encoding="utf-8") as file:
        value = json.load(file).get("bm25_weight", 0.6)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise SystemExit(f"bm25_weight in user_config is {value!r}; it is a number from 0 to 1")
    return value


def pairs(candidates):
    try:
        return [(str(c["id"]), min(1.0, max(0.0, float(c["cosine"])))) for c in candidates]
    except (KeyError, TypeError, ValueError):
        raise replica.Refusal(400, 'a candidate is {"id": "...", "cosine": 0.5}') from None


def main():
    ranker = Ranker(replica.beside("corpus.json"), weight())

    def rank(request):
        body = request.body
        if not isinstance(body, dict) or not isinstance(body.get("query"), str) or not isinstance(body.get("candidates"), list):
            raise replica.Refusal(400, 'send {"query": "...", "candidates": [{"id": "...", "cosine": 0.5}]}')
        return {"results": ranker.rank(body["query"], pairs(body["candidates"])), **replica.whoami()}

    replica.serve({("POST", "/rank"): rank})


if __name__ == "__main__":
    main()
