"""Does a quality score fall where an image is blurred?  python experiments/aikd/blur.py RUN [RUN ...], with KDFACE_DATA

300 images of LFW, each as it is and blurred by a Gaussian of sigma 1, 2 and 4 pixels of a 112 px crop. Printed for each
run are the shares of images whose score falls, and the mean fall in standard deviations of the scores.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from kdface.assembly.load import load_run
from kdface.datasets import RawFolder

IMAGES, SIGMAS = 300, (1.0, 2.0, 4.0)


def main() -> None:
    data = Path(os.environ["KDFACE_DATA"])
    for path in sys.argv[1:]:
        method = load_run(path).method
        kind = method.preprocessing
        lfw = RawFolder(data / "lfw", data / "lfw_landmarks.csv", size=kind.size, name="lfw")
        rows = np.random.default_rng(0).choice(len(lfw), IMAGES, replace=False)
        images = [lfw[int(row)].image for row in rows]
        scores = []
        for sigma in (0.0, *SIGMAS):
            seen = images
            if sigma:
                width = sigma * kind.size[0] / 112
                seen = [np.asarray(cv2.GaussianBlur(each, (0, 0), width), np.uint8) for each in images]
            with torch.inference_mode():
                parts = [
                    method.quality(torch.from_numpy(np.stack(seen[first : first + 64])), kind)
                    for first in range(0, IMAGES, 64)
                ]
            scores.append(torch.cat(parts).double().numpy())
        clear, *blurred = scores
        print(path)
        for sigma, each in zip(SIGMAS, blurred, strict=True):
            fall = (clear - each).mean() / clear.std()
            print(f"  sigma {sigma:g}: {(each < clear).mean():.2f} fall, by {fall:.2f} standard deviations")


if __name__ == "__main__":
    main()
