"""Tests of what finds and orders texts: python3 -m unittest discover -s examples/hcl/search"""

import math
import unittest

import embedder
import pipeline
import ranker
import replica

TEXTS = replica.beside("corpus.json")


class Corpus(unittest.TestCase):
    def test_each_text_is_whole(self):
        self.assertGreaterEqual(len(TEXTS), 60)
        self.assertEqual(len({text["id"] for text in TEXTS}), len(TEXTS))
        for text in TEXTS:
            self.assertEqual(sorted(text), ["id", "text", "title"])
            self.assertTrue(text["title"] and text["text"].endswith("."), text["id"])


class Embedder(unittest.TestCase):
    def test_a_vector_has_length_one(self):
        for text in TEXTS:
            vector = embedder.embed(text["text"])
            self.assertAlmostEqual(sum(value * value for value in vector.values()), 1.0)
            self.assertTrue(all(0 <= index < embedder.DIMENSIONS for index in vector))

    def test_nothing_to_go_by_is_no_vector(self):
        for text in ("", "   ", "the of and", "?!"):
            self.assertEqual(embedder.embed(text), {}, text)

    def test_the_same_in_every_process(self):
        vector = embedder.embed("bread")
        self.assertEqual(min(vector), 2814)
        self.assertEqual(len(vector), 13)
        self.assertAlmostEqual(vector[min(vector)], 0.223, places=3)

    def test_a_text_is_nearest_to_itself(self):
        index = embedder.Index(TEXTS)
        for text in TEXTS:
            best = index.nearest(text["title"] + ". " + text["text"], 2)
            self.assertEqual(best[0]["id"], text["id"])
            self.assertAlmostEqual(best[0]["cosine"], 1.0, places=5)

    def test_pieces_of_words_find_other_forms(self):
        near = embedder.cosine(embedder.embed("garden"), embedder.embed("gardening"))
        far = embedder.cosine(embedder.embed("garden"), embedder.embed("networking"))
        self.assertGreater(near, 0.2)
        self.assertLess(abs(far), 0.15)


class Ranker(unittest.TestCase):
    def setUp(self):
        self.index = embedder.Index(TEXTS)
        self.ranker = ranker.Ranker(TEXTS, 0.6)

    def first(self, query):
        candidates = [(c["id"], c["cosine"]) for c in self.index.nearest(query, 20)]
        return self.ranker.rank(query, candidates)[0]["title"]

    def test_it_finds_what_is_meant(self):
        for query, title in {
            "how do stars die": "How stars die",
            "database index": "What an index does",
            "keeping slugs off my plants": "Keeping slugs away",
            "baking bread": "Baking sourdough bread",
            "losing data after a crash": "Write-ahead logging",
            "raft leader": "Consensus with Raft",
            "a clock for ships": "Longitude at sea",
            "SLUGS": "Keeping slugs away",
        }.items():
            self.assertEqual(self.first(query), title, query)

    def test_scores_are_in_order_and_within_bounds(self):
        for query in ("water", "light and colour", "how", "why is a query slow"):
            candidates = [(c["id"], c["cosine"]) for c in self.index.nearest(query, 20)]
            scores = [result["score"] for result in self.ranker.rank(query, candidates)]
            self.assertEqual(scores, sorted(scores, reverse=True))
            self.assertTrue(all(0 <= score <= 1 and math.isfinite(score) for score in scores), scores)

    def test_equal_scores_are_in_the_order_of_their_ids(self):
        ranked = self.ranker.rank("xyzzy", [("cooking-03", 0.5), ("cooking-01", 0.5), ("cooking-02", 0.5)])
        self.assertEqual([result["id"] for result in ranked], ["cooking-01", "cooking-02", "cooking-03"])

    def test_texts_that_it_does_not_know_are_left_out(self):
        self.assertEqual(self.ranker.rank("bread", [("nobody", 1.0)]), [])

    def test_the_snippet_is_the_sentence_that_answers(self):
        ranked = self.ranker.rank("seedlings indoors frost", [("gardening-02", 0.5)])
        self.assertIn("frost", ranked[0]["snippet"])
        self.assertLessEqual(len(ranked[0]["snippet"]), ranker.SNIPPET + 4)

    def test_candidates_of_another_kind_are_refused(self):
        for bad in ([1], [{"id": "a"}], [{"id": "a", "cosine": "x"}], [None]):
            with self.assertRaises(replica.Refusal) as caught:
                ranker.pairs(bad)
            self.assertEqual(caught.exception.status, 400)


class Pipeline(unittest.TestCase):
    def test_the_number_of_results(self):
        self.assertEqual(pipeline.number("20"), 20)
        for bad in ("0", "21", "-1", "x", "1.5", "9" * 5000, "\u0663"):
            with self.assertRaises(replica.Refusal):
                pipeline.number(bad)

    def test_a_handle_that_is_not_set(self):
        with self.assertRaises(replica.Refusal) as caught:
            replica.post("no-such", "/", {}, "id")
        self.assertEqual(caught.exception.status, 503)
        self.assertIn("SERVE_HANDLE_NO_SUCH", str(caught.exception))


if __name__ == "__main__":
    unittest.main()
