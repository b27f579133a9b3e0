"""The ingress: it asks the embedder for candidates and the ranker for their
order, and answers the first few."""

import time

import replica

MAX_QUERY = 500  # characters
CANDIDATES = 20


def search(request):
    started = time.monotonic()
    query = request.word("q")
    if not query:
        raise replica.Refusal(400, "say what to search for: /search?q=how+do+stars+die, and how many results with &n=5")
    if len(query) > MAX_QUERY:
        raise replica.Refusal(400, f"q is {len(query)} characters long; at most {MAX_QUERY} are taken")
    most = number(request.word("n") or "5")

    found = replica.post("embedder", "/nearest", {"query": query, "n": max(CANDIDATES, most)}, request.request_id)
    candidates = expect("embedder", found, "candidates")
    ranked = {"results": []}
    if candidates:
        ranked = replica.post("ranker", "/rank", {"query": query, "candidates": candidates}, request.request_id)
    return {
        "query": query,
        "results": expect("ranker", ranked, "results")[:most],
        "took_ms": round((time.monotonic() - started) * 1000, 1),
        "request_id": request.request_id,
        **replica.whoami(),
    }


def number(text):
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:4]) <= 20 and len(text) <= 4):
        raise replica.Refusal(400, "n is a number of results, from 1 to 20")
    return int(text)


def expect(deployment, value, field):
    if not isinstance(value, dict) or not isinstance(value.get(field), list):
        raise replica.Refusal(502, f"{deployment} answered without {field}")
    return value[field]


if __name__ == "__main__":
    replica.serve({("GET", "/"): search})
