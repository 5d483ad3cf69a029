"""Losses: pure functions on tensors, and the miners that select triplets."""

from kdface.losses.anchor_miners import BatchHard, DistanceWeighted, EasyPositive
from kdface.losses.distillation import cosine_consistency, embedding_mse, tempered_kl
from kdface.losses.feature_maps import FitNetsHint, VariationalInformation, attention_transfer
from kdface.losses.miners import All, AllSemiHard, Hard, Miner, Random, Sandberg, SemiHard
from kdface.losses.relational import probabilistic_transfer, rkd_angle, rkd_distance, similarity_preserving
from kdface.losses.transfer import (
    AttentionTransfer,
    HintTransfer,
    LogitTransfer,
    ProbabilisticTransfer,
    RelationalTransfer,
    SimilarityTransfer,
    VariationalTransfer,
)
from kdface.losses.triplet import Triplets, squared_distances, triplet_hinges, triplet_loss

__all__ = [
    "All",
    "AllSemiHard",
    "AttentionTransfer",
    "BatchHard",
    "DistanceWeighted",
    "EasyPositive",
    "FitNetsHint",
    "Hard",
    "HintTransfer",
    "LogitTransfer",
    "Miner",
    "ProbabilisticTransfer",
    "Random",
    "RelationalTransfer",
    "Sandberg",
    "SemiHard",
    "SimilarityTransfer",
    "Triplets",
    "VariationalInformation",
    "VariationalTransfer",
    "attention_transfer",
    "cosine_consistency",
    "embedding_mse",
    "probabilistic_transfer",
    "rkd_angle",
    "rkd_distance",
    "similarity_preserving",
    "squared_distances",
    "tempered_kl",
    "triplet_hinges",
    "triplet_loss",
]
