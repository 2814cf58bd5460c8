"""The tasks and the small models of the layer ratio's experiment."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks import small_models
from benchmarks.layer_ratio import PARTS, measure
from benchmarks.small_models import Shape, Training, sized, trained
from benchmarks.small_tasks import N_KEYS, N_NEEDLES, N_TOKENS, NOT_ASKED, task
from torch import Generator

TINY = Training(steps=2, tokens=64, rate=0.004, sizes=(4,))


def make(name: str, size: int) -> tuple[list[list[int]], list[list[int]]]:
    batch = task(name).make(Generator().manual_seed(1), 8, size)
    assert batch.token_ids.shape == batch.answers.shape
    assert int(batch.token_ids.max()) < task(name).vocab_size
    return batch.token_ids.tolist(), batch.answers.tolist()


def test_recall_asks_every_key_once_for_the_value_that_followed_it() -> None:
    for ids, answers in zip(*make("recall", 5), strict=True):
        value_of = dict(zip(ids[:10:2], ids[1:10:2], strict=True))
        assert len(value_of) == 5
        assert sorted(ids[10::2]) == sorted(value_of)
        assert max(value_of) < N_KEYS <= min(value_of.values())
        assert answers[:10] == [NOT_ASKED] * 10
        assert answers[10:] == [x for key in ids[10::2] for x in (value_of[key], NOT_ASKED)]


def test_induction_asks_for_what_came_the_first_time() -> None:
    for ids, answers in zip(*make("induction", 9), strict=True):
        asked = [i for i, answer in enumerate(answers) if answer != NOT_ASKED]
        assert asked
        for i in asked:
            assert answers[i] == ids[i + 1] if i + 1 < len(ids) else answers[i] in ids
            assert ids[i] in ids[:i], "what follows can be known"


def test_needles_are_asked_at_the_end_and_lie_apart() -> None:
    for ids, answers in zip(*make("needle", 64), strict=True):
        text, end = ids[: -2 * N_NEEDLES], ids[-2 * N_NEEDLES :]
        places = [i for i, token in enumerate(text) if token >= N_TOKENS]
        assert len(places) == N_NEEDLES
        value_of = {text[i]: text[i + 1] for i in places}
        assert [a for a in answers if a != NOT_ASKED] == [value_of[key] for key in end[::2]]


def test_characters_are_tested_on_other_text_than_is_trained_on() -> None:
    characters = task("characters")
    batch = characters.make(Generator().manual_seed(0), 4, 64)
    assert torch.equal(batch.answers[:, :-1], batch.token_ids[:, 1:])
    assert characters.source, "a kept training is of this text"


@pytest.mark.parametrize("name", PARTS)
def test_models_of_a_part_have_the_same_number_of_parameters(name: str) -> None:
    for part in PARTS[name]():
        vocab_size = task(part.task).vocab_size
        counts = [
            shape.parameters(vocab_size) for shape_name, shape in part.sized().items() if shape_name not in part.added
        ]
        assert max(counts) <= 1.04 * min(counts)


def test_a_size_that_no_width_gives_is_an_error() -> None:
    with pytest.raises(ValueError, match="parameters where"):
        sized(Shape("mm"), replace(Shape("mm"), d_ff=4096), 128)


def test_what_is_trained_is_kept_and_told_with_its_conditions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_models, "KEPT", tmp_path)
    monkeypatch.setattr(small_models, "_TEST_TOKENS", 64)
    part = replace(PARTS["norms"]()[0], training=TINY, rates=(0.004,))
    rows = measure(part, (0, 1), False, lambda line: None)
    assert [row["shape"] for row in rows] == ["with norms", "without norms"]
    assert len(list(tmp_path.glob("*.json"))) == 4
    for row in rows:
        assert len(row["accuracy"]["4"]["all"]) == 2
        assert [one["torch"] for one in row["trained"]] == [torch.__version__]
    monkeypatch.setattr(small_models, "_train", None)  # what is kept is taken up
    assert measure(part, (0, 1), False, lambda line: None) == rows
    with pytest.raises(TypeError):
        trained(part.task, part.shapes["with norms"], TINY, 2)
