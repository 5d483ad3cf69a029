"""Backbones: image (N, 3, H, W) -> embedding (N, D), not normalised, with published key names."""

from kdface.backbones.backbone import Backbone
from kdface.backbones.ckd_resnet import ckd_resnet18
from kdface.backbones.inception_resnet_v1 import inception_resnet_v1
from kdface.backbones.iresnet import iresnet18, iresnet34, iresnet50, iresnet100, iresnet_nano
from kdface.backbones.mobilefacenet import mobilefacenet, mobilefacenet_wide
from kdface.backbones.nn1 import nn1
from kdface.backbones.nn2 import nn2, nn4, nns2
from kdface.backbones.sfnet import sfnet4, sfnet10, sfnet20, sfnet36, sfnet64
from kdface.backbones.weights import load_weights

__all__ = [
    "Backbone",
    "ckd_resnet18",
    "inception_resnet_v1",
    "iresnet18",
    "iresnet34",
    "iresnet50",
    "iresnet100",
    "iresnet_nano",
    "load_weights",
    "mobilefacenet",
    "mobilefacenet_wide",
    "nn1",
    "nn2",
    "nn4",
    "nns2",
    "sfnet4",
    "sfnet10",
    "sfnet20",
    "sfnet36",
    "sfnet64",
]
