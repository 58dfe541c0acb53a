"""What every metric asks of the label maps that it compares."""

from torch import Tensor


def require_same_shape(prediction_BHW: Tensor, truth_BHW: Tensor) -> None:
    """Raise a ValueError if the two differ in shape, which would otherwise be broadcast."""
    if prediction_BHW.shape != truth_BHW.shape:
        raise ValueError(
            f"label maps differ in shape: prediction {tuple(prediction_BHW.shape)}, "
            f"truth {tuple(truth_BHW.shape)}"
        )
