"""What Python packages reach on the collections of `eval/retrieval.toml`: BM25 by bm25s, the same embedding model on
onnxruntime, and the two fused by qdrant-client's local engine as its documentation shows it.

    pip install bm25s PyStemmer pytrec_eval-terrier onnxruntime tokenizers qdrant-client numpy
    python eval/retrieval/compare.py MODEL COLLECTION...

MODEL is the directory that `twin models path all-minilm-l6-v2` prints, COLLECTION a directory in the layout of BEIR.
Documents are cut into passages of at most 190 tokens at paragraphs and sentences; a document stands where its best
passage does.
"""

import json
import re
import sys
from collections import defaultdict
from pathlib import Path

import bm25s
import numpy as np
import onnxruntime
import pytrec_eval
import Stemmer
from qdrant_client import QdrantClient, models
from tokenizers import Tokenizer

TOKENS, WINDOW, CANDIDATES = 190, 256, 40


class Embedder:
    def __init__(self, directory):
        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.session = onnxruntime.InferenceSession(str(directory / "model.onnx"))

    def count(self, text):
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def embed(self, texts):
        """Mean pooling, length one; batches of texts of about one length."""
        ids = [self.tokenizer.encode(text).ids[:WINDOW] for text in texts]
        order = sorted(range(len(texts)), key=lambda index: -len(ids[index]))
        vectors = np.zeros((len(texts), 384), np.float32)
        while order:
            length = len(ids[order[0]])
            batch, order = order[: max(1, 2048 // length)], order[max(1, 2048 // length) :]
            tokens = np.zeros((len(batch), length), np.int64)
            for row, index in enumerate(batch):
                tokens[row, : len(ids[index])] = ids[index]
            mask = (tokens != 0).astype(np.int64)
            inputs = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
            names = {given.name for given in self.session.get_inputs()}
            hidden = self.session.run(None, {name: value for name, value in inputs.items() if name in names})[0]
            pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
            vectors[batch] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return vectors


def passages(text, count):
    pieces = []
    for paragraph in re.split(r"\n\s*\n", text):
        pieces += [paragraph] if count(paragraph) <= TOKENS else re.split(r"(?<=[.!?])\s+", paragraph)
    found = [""]
    for piece in pieces:
        joined = f"{found[-1]}\n{piece}".strip()
        if found[-1] and count(joined) > TOKENS:
            found.append(piece)
        else:
            found[-1] = joined
    return found


def rows(file):
    return [json.loads(line) for line in file.read_text().splitlines() if line.strip()]


def by_document(owners, scored):
    """The best score of each document."""
    best = {}
    for index, score in scored:
        best[owners[index]] = max(score, best.get(owners[index], -1e9))
    return best


def measure(directory, embedder):
    corpus, queries = rows(directory / "corpus.jsonl"), rows(directory / "queries.jsonl")
    judged = defaultdict(dict)
    for line in (directory / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, gain = line.split("\t")
        judged[query][document] = int(gain)
    owners, texts = [], []
    for row in corpus:
        for passage in passages(row["text"], embedder.count):
            owners.append(row["_id"])
            texts.append(f"{row['title']}\n{passage}")
    stemmer = Stemmer.Stemmer("english")
    tokens = lambda given: bm25s.tokenize(given, stopwords="en", stemmer=stemmer, show_progress=False)
    whole = bm25s.BM25(k1=1.2, b=0.75)
    whole.index(tokens([f"{row['title']} {row['text']}" for row in corpus]), show_progress=False)
    lexical = bm25s.BM25(k1=1.2, b=0.75)
    lexical.index(tokens(texts), show_progress=False)
    client = QdrantClient(":memory:")
    client.create_collection("c", vectors_config=models.VectorParams(size=384, distance=models.Distance.COSINE))
    vectors = embedder.embed(texts)
    client.upload_collection("c", vectors=vectors, ids=range(len(texts)))
    asked = embedder.embed([query["text"] for query in queries])
    runs = defaultdict(dict)
    for query, vector in zip(queries, asked):
        name = query["_id"]
        scores = whole.get_scores(list(bm25_words(tokens(query["text"]))))
        runs["bm25s, whole documents"][name] = {row["_id"]: float(s) for row, s in zip(corpus, scores) if s > 0}
        scores = lexical.get_scores(list(bm25_words(tokens(query["text"]))))
        words = [(index, float(scores[index])) for index in np.argsort(-scores)[:CANDIDATES] if scores[index] > 0]
        runs["bm25s, passages"][name] = by_document(owners, words)
        near = client.query_points("c", query=vector.tolist(), limit=CANDIDATES).points
        near = [(point.id, point.score) for point in near]
        runs["qdrant-client, dense"][name] = by_document(owners, near)
        fused = defaultdict(float)
        for ranked in (words, near):
            for rank, (index, _) in enumerate(ranked):
                fused[index] += 1 / (61 + rank)
        runs["both, by reciprocal rank"][name] = by_document(owners, fused.items())
    evaluator = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.10", "recip_rank", "success.1"})
    for label, run in runs.items():
        for query in queries:
            run[query["_id"]].pop(query.get("exclude"), None)
        found = evaluator.evaluate(run)
        mean = lambda measure: np.mean([found.get(query, {}).get(measure, 0.0) for query in judged])
        figures = f"nDCG@10 {mean('ndcg_cut_10'):.3f}  MRR {mean('recip_rank'):.3f}  success@1 {mean('success_1'):.3f}"
        print(f"{directory.name:32} {label:28} {figures}", flush=True)


def bm25_words(tokenized):
    """The words of the one text that was tokenized."""
    names = {index: word for word, index in tokenized.vocab.items()}
    return (names[index] for index in tokenized.ids[0])


if __name__ == "__main__":
    embedder = Embedder(Path(sys.argv[1]))
    for collection in sys.argv[2:]:
        measure(Path(collection), embedder)
