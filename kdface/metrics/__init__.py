"""torchmetrics for the exact error rates of `kdface.evaluation`, for any module, training loop and number of processes.

    metrics = MetricCollection([EqualErrorRate(), TARAtFAR(1e-3)])
    metrics.update(cosines, same)
    metrics.compute()

Values are float64 (float32 on a device without it); NaN means that the data cannot resolve the rate: too few pairs, or
only one kind of them, as in the batches of Lightning's sanity check. Scores that are not finite are an error.

Do not use torchmetrics' binary curves for cosines: they apply a sigmoid to each batch with values outside [0, 1], which
shifts EERs by 0.04 to 0.05 (tests/metrics). Its `MulticlassAccuracy(average="micro")`, `DaviesBouldinScore` on unit
embeddings, and `MeanMetric` are exact and not duplicated here.
"""

from kdface.metrics.calibration import CalibrationError
from kdface.metrics.clustering import BCubedF
from kdface.metrics.identification import CMC
from kdface.metrics.quality import ErrorDiscard
from kdface.metrics.verification import EqualErrorRate, FNMRAtFMR, ROCArea, TARAtFAR, TenFoldAccuracy, VALAtFAR

__all__ = [
    "CMC",
    "BCubedF",
    "CalibrationError",
    "EqualErrorRate",
    "ErrorDiscard",
    "FNMRAtFMR",
    "ROCArea",
    "TARAtFAR",
    "TenFoldAccuracy",
    "VALAtFAR",
]
