"""The event file, read back by TensorBoard itself."""

from __future__ import annotations

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from millrace.training.board import Point, is_shown, write_board


def test_tensorboard_reads_the_curves(tmp_path):
    points = [Point("step/loss", step, 1e9 + step, 1.0 / step) for step in (1, 2, 4)]
    points.append(Point("validation/accuracy", 4, 1e9 + 5, 0.75))
    write_board(str(tmp_path), [points[0]])
    write_board(str(tmp_path), points)
    board = EventAccumulator(str(tmp_path)).Reload()
    assert sorted(board.Tags()["scalars"]) == ["step/loss", "validation/accuracy"]
    assert [(event.step, event.wall_time, event.value) for event in board.Scalars("step/loss")] == [
        (1, 1e9 + 1, 1.0),
        (2, 1e9 + 2, 0.5),
        (4, 1e9 + 4, 0.25),
    ]
    assert [event.value for event in board.Scalars("validation/accuracy")] == [0.75]
    assert [file.name for file in tmp_path.iterdir()] == ["events.out.tfevents.millrace"]


def test_a_long_epoch_shows_a_hundred_steps():
    assert sum(is_shown(step, 100_000) for step in range(100_000)) == 100
    assert all(is_shown(step, 7) for step in range(7))
