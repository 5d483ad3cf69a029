"""Evaluation: embeddings -> scores -> curves -> protocol results. NumPy and torch only."""

from kdface.evaluation.embed import Embedder
from kdface.evaluation.pairs import PairList, random_pairs, read_lfw_pairs
from kdface.evaluation.protocol import (
    EvaluationProtocol,
    Metric,
    Outcome,
    Verification,
    bin_verification,
    lfw_verification,
    random_verification,
)
from kdface.evaluation.quantise import Quantised

__all__ = [
    "Embedder",
    "EvaluationProtocol",
    "Metric",
    "Outcome",
    "PairList",
    "Quantised",
    "Verification",
    "bin_verification",
    "lfw_verification",
    "random_pairs",
    "random_verification",
    "read_lfw_pairs",
]
