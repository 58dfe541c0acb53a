"""The metrics on the worked examples of method.md 5."""

import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.metrics import Miou, empty
from trainables.metrics.per_image import write_image_counts


def maps(*rows):
    return torch.torch.tensor([[[int(label) for label in row] for row in rows]])


# --- Jaccard -----------------------------------------------------------------------------------

FIRST = maps("1000", "1110"), maps("1100", "1100")  # 3 of 5
SECOND = maps("1111", "1100"), maps("1111", "0000")  # 4 of 6


def jaccard(*pairs):
    counts = empty("jaccard", 2)
    for prediction, truth in pairs:
        counts = counts.add(prediction, truth)
    return counts.compute()["jaccard"]


def test_jaccard_is_averaged_over_images_not_pooled():
    # (3/5 + 4/6) / 2; pooled pixels would give 7/11 = 63.6364.
    assert jaccard(FIRST, SECOND) == pytest.approx(63.3333, abs=5e-5)


def test_jaccard_of_a_batch_is_that_of_its_images():
    batch = torch.cat([FIRST[0], SECOND[0]]), torch.cat([FIRST[1], SECOND[1]])
    assert jaccard(batch) == jaccard(FIRST, SECOND)


def test_two_empty_masks_agree_and_one_empty_mask_does_not():
    nothing, something = maps("00", "00"), maps("01", "00")
    assert jaccard((nothing, nothing)) == 100
    assert jaccard((nothing, something)) == 0
    assert jaccard((something, nothing)) == 0


def test_only_class_1_is_foreground():
    assert jaccard((maps("12"), maps("12"))) == 100
    assert jaccard((maps("12"), maps("11"))) == 50


# --- mean IoU ----------------------------------------------------------------------------------

TRUTH = maps("0011", "0011", "2211", "2200")
PREDICTION = maps("0011", "0111", "2210", "2000")


def miou(classes, *pairs):
    counts = empty("miou_ledm", classes)
    for prediction, truth in pairs:
        counts = counts.add(prediction, truth)
    return counts


def test_miou_of_three_classes():
    counts = miou(3, (PREDICTION, TRUTH))
    assert counts.both_K == (5, 5, 3)
    assert counts.either_K == (8, 7, 4)
    assert counts.compute()["miou_ledm"] == pytest.approx(69.64286, abs=1e-5)


def test_a_class_that_occurs_nowhere_counts_as_zero_in_the_tables_number_only():
    scores = miou(4, (PREDICTION, TRUTH)).compute()
    assert scores["miou_ledm"] == pytest.approx(52.23214, abs=1e-5)
    assert scores["miou_present"] == pytest.approx(69.64286, abs=1e-5)


def test_a_class_that_is_only_predicted_is_present_with_zero():
    prediction = PREDICTION.clone()
    prediction[0, 0, 0] = 3
    scores = miou(4, (prediction, TRUTH)).compute()
    assert scores["miou_ledm"] == pytest.approx(49.10714, abs=1e-5)
    assert scores["miou_present"] == pytest.approx(49.10714, abs=1e-5)


def test_predictions_on_unlabelled_pixels_enlarge_the_union():
    truth = TRUTH.clone()
    truth[0, 0, :2] = 255
    counts = miou(3, (PREDICTION, truth))
    assert (counts.both_K[0], counts.either_K[0]) == (3, 8)
    # Masked out, they would give 65.47619.
    assert counts.compute()["miou_ledm"] == pytest.approx(61.30952, abs=1e-5)


def test_miou_accumulates_pixels_over_images():
    counts = miou(3, (PREDICTION, TRUTH), (maps("11", "01"), maps("11", "11")))
    assert counts.both_K == (5, 8, 3)
    assert counts.either_K == (9, 11, 4)
    # Averaged over images it would be 47.33443.
    assert counts.compute()["miou_ledm"] == pytest.approx(67.76094, abs=1e-5)


# --- both --------------------------------------------------------------------------------------

METRICS = ["jaccard", "miou_ledm"]


@st.composite
def parts(draw):
    """Draw three lots of 0 to 3 images of 2 x 2 pixels, with labels in 0..2 and 255."""
    lots = []
    for _ in range(3):
        count = draw(st.integers(0, 3))
        pixels = st.lists(st.sampled_from([0, 1, 2]), min_size=4 * count, max_size=4 * count)
        labels = st.lists(st.sampled_from([0, 1, 2, 255]), min_size=4 * count, max_size=4 * count)
        lots.append(
            tuple(torch.tensor(draw(p)).reshape(count, 2, 2).long() for p in (pixels, labels))
        )
    return lots


@pytest.mark.parametrize("metric", METRICS)
@given(parts())
def test_parts_can_be_merged_in_any_grouping(metric, lots):
    a, b, c = (empty(metric, 3).add(*lot) for lot in lots)
    together = empty(metric, 3).add(*(torch.cat(maps) for maps in zip(*lots, strict=True)))
    assert a.merge(b).merge(c) == a.merge(b.merge(c)) == together
    assert a.merge(empty(metric, 3)) == empty(metric, 3).merge(a) == a


@pytest.mark.parametrize("metric", METRICS)
def test_the_tables_number_has_the_name_of_the_metric(metric):
    assert metric in empty(metric, 3).add(PREDICTION, TRUTH).compute()


@pytest.mark.parametrize("metric", METRICS)
def test_a_perfect_prediction_scores_100(metric):
    assert empty(metric, 3).add(TRUTH, TRUTH).compute()[metric] == pytest.approx(100)


@pytest.mark.parametrize("metric", METRICS)
def test_label_maps_of_different_shape_are_refused(metric):
    with pytest.raises(ValueError, match="differ in shape"):
        empty(metric, 3).add(PREDICTION, TRUTH[:, :1])


@pytest.mark.parametrize("metric", METRICS)
def test_the_score_of_no_image_is_an_error(metric):
    with pytest.raises(ValueError, match="of no image is not defined"):
        empty(metric, 3).compute()


def test_counts_of_different_classes_are_not_merged():
    with pytest.raises(ValueError, match="cannot merge 3 with 4"):
        empty("miou_ledm", 3).merge(empty("miou_ledm", 4))


def test_the_counts_of_images_are_enough_for_the_mean_iou_of_any_selection(tmp_path):
    truth = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1]], [[1, 1, 1, 1], [2, 2, 2, 2]]])
    answer = torch.tensor([[[0, 0, 1, 1], [0, 1, 1, 1]], [[1, 1, 2, 1], [2, 2, 2, 0]]])
    each = [Miou.empty(3).add(answer[i : i + 1], truth[i : i + 1]) for i in range(2)]
    write_image_counts(tmp_path / "images.arrow", ["a", "b"], each)
    rows = pa.ipc.open_file(tmp_path / "images.arrow").read_all().to_pylist()
    both = [sum(row["both"][k] for row in rows) for k in range(3)]
    either = [sum(row["either"][k] for row in rows) for k in range(3)]
    whole = Miou.empty(3).add(answer, truth).compute()["miou_ledm"]
    assert sum(100 * b / e for b, e in zip(both, either, strict=True)) / 3 == pytest.approx(whole)
    # Class 2 is neither predicted nor true in the first image: its own score leaves it out.
    assert rows[0]["score"] == pytest.approx((100 * 3 / 4 + 100 * 4 / 5) / 2)
