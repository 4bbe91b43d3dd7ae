"""The mean F1 score of a classifier's classes, for training and for what reads its files."""

from __future__ import annotations

import math
from collections.abc import Sequence


def macro_f1(hits: Sequence[int], support: Sequence[int], predicted: Sequence[int]) -> float | None:
    """Mean F1 score of the classes that have images, 0..1; None without images.

    The F1 score of a class is 2 · TP / (2 · TP + FP + FN): TP of its images were predicted as it, FN were not, and FP
    images of other classes were. A class without images has no recall, and no share in the mean; an image that was
    taken for it is a miss of the image's own class. (Sokolova and Lapalme, "A systematic analysis of performance
    measures for classification tasks", 2009; scikit-learn: f1_score with average="macro" and labels=np.unique(y_true).)

    Args:
        hits: for each class TP.
        support: for each class the number of its images, TP + FN.
        predicted: for each class the number of images that were predicted as it, TP + FP.
    """
    classes = zip(hits, support, predicted, strict=True)
    scores = [2 * hit / (images + taken) for hit, images, taken in classes if images]
    return math.fsum(scores) / len(scores) if scores else None
