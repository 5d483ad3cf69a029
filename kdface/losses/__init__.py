"""Losses: pure functions on tensors, and the miners that choose what the triplet loss compares."""

from kdface.losses.anchor_miners import BatchHard, DistanceWeighted, EasyPositive
from kdface.losses.miners import All, AllSemiHard, Hard, Miner, Random, Sandberg, SemiHard
from kdface.losses.triplet import Triplets, squared_distances, triplet_hinges, triplet_loss

__all__ = [
    "All",
    "AllSemiHard",
    "BatchHard",
    "DistanceWeighted",
    "EasyPositive",
    "Hard",
    "Miner",
    "Random",
    "Sandberg",
    "SemiHard",
    "Triplets",
    "squared_distances",
    "triplet_hinges",
    "triplet_loss",
]
