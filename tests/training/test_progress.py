import io
import re

import pytest
from rich.console import Console

from biddable.training.progress import ProgressBar

START = {
    "event": "start",
    "num_steps": 400,
    "num_epochs": 4,
    "num_examples": 1600,
    "num_parameters": 4_000_000,
    "num_trained_parameters": 300_000,
    "learning_rate": 1e-3,
    "learning_rate_reason": "as given",
}


def step(number, seconds):
    return {
        "event": "step",
        "step": number,
        "epoch": 1 + (number - 1) // 100,
        "seconds": seconds,
        "loss": 1.234,
        "lr": 8e-4,
        "grad_norm": 0.5,
        "num_tokens": 1234,
        "num_loss_tokens": 456,
        "memory_bytes": 1_240_000_000,
    }


def held_out(epoch, seconds):
    return {
        "event": "held_out",
        "epoch": epoch,
        "step": 100 * epoch,
        "loss": 1.5,
        "num_loss_tokens": 9,
        "seconds": seconds,
    }


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal(width):
    out = Terminal()
    return out, Console(file=out, width=width, force_terminal=True, color_system=None)


def last_line(text):
    """What stands on the last line of a terminal that was given this text."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return re.split(r"[\r\n]+", plain.strip())[-1].rstrip()


def drawn(width):
    out, console = terminal(width)
    with ProgressBar(console, now=lambda: 0.0) as bar:
        bar(START)
        bar(held_out(0, 0.0))
        for number in range(1, 124):
            bar(step(number, float(number)))
    return last_line(out.getvalue())


@pytest.mark.parametrize(
    ("width", "figures"),
    [
        (
            120,
            [
                "loss 1.234",
                "▁" * 12,
                "held-out 1.500",
                "lr 8.0e-4",
                "1,234 tok/s",
                "456 learned/s",
                "1.2 GB",
            ],
        ),
        (
            100,
            ["loss 1.234", "held-out 1.500", "lr 8.0e-4", "1,234 tok/s", "456 learned/s", "1.2 GB"],
        ),
        (80, ["loss 1.234", "held-out 1.500", "lr 8.0e-4", "1,234 tok/s", "1.2 GB"]),
        (60, ["loss 1.234", "held-out 1.500", "1,234 tok/s"]),
        (40, ["loss 1.234"]),
        (12, []),
    ],
)
def test_the_line_fits_and_gives_figures_up_one_by_one(width, figures):
    line = drawn(width)
    assert len(line) <= width
    time_left = ["4:37 left"] if width > 12 else []
    words = re.sub("  +[━─]+", "", line)
    assert re.split("  +", words) == ["123/400", *figures, *time_left]


def test_where_there_is_room_a_bar_is_drawn():
    assert drawn(140).count("━") == round(24 * 123 / 400)
    assert drawn(140).count("─") == 24 - round(24 * 123 / 400)
    assert "━" not in drawn(12)


def test_time_left_runs_down_while_a_step_takes_its_time():
    out, console = terminal(100)
    seconds = [0.0]
    with ProgressBar(console, now=lambda: seconds[0]) as bar:
        bar(START)
        bar(step(1, 2.0))
        seconds[0] = 38.0
    assert "12:40 left" in last_line(out.getvalue())  # 399 steps of 2 s, less 38 s


def test_the_end_says_how_long_it_took():
    out, console = terminal(100)
    with ProgressBar(console) as bar:
        bar(START)
        bar(step(400, 95.0))
        bar({"event": "end", "seconds": 95.5})
    assert last_line(out.getvalue()).endswith("in 1:36")


@pytest.mark.parametrize(("done", "told"), [(0, ""), (7, ", earlier parts too")])
def test_a_time_says_what_it_counts(done, told):
    out, console = terminal(100)
    seconds = [0.0]
    with ProgressBar(console, now=lambda: seconds[0]) as bar:
        bar(START | {"step": done, "seconds": 60.0 * bool(done)})
        seconds[0] = 4.0
    assert last_line(out.getvalue()).endswith(f"{1 if done else 0}:04 so far{told}")
    with ProgressBar(console) as bar:
        bar(START | {"step": done})
        bar({"event": "end", "seconds": 95.5})
    assert last_line(out.getvalue()).endswith(f"in 1:36{told}")


def test_the_terminal_is_given_back_after_an_error():
    out, console = terminal(100)
    bar = ProgressBar(console)
    with pytest.raises(RuntimeError), bar:
        fail(bar)
    hidden, shown = out.getvalue().rfind("\x1b[?25l"), out.getvalue().rfind("\x1b[?25h")
    assert -1 < hidden < shown  # the cursor


def fail(bar):
    bar(START)
    raise RuntimeError


def plain(num_steps, *, seconds_per_step, monkeypatch):
    """Give the lines that a log file is left with, colours being forced as some builds do."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = io.StringIO()
    with ProgressBar(Console(file=out, color_system=None, width=80)) as bar:
        bar(START | {"num_steps": num_steps})
        for number in range(1, num_steps + 1):
            bar(step(number, number * seconds_per_step))
        bar({"event": "end", "seconds": num_steps * seconds_per_step})
    assert "\x1b" not in out.getvalue()
    assert "\r" not in out.getvalue()
    return [line for line in out.getvalue().splitlines() if line.startswith("step ")]


def test_a_file_is_given_a_whole_line_now_and_then(monkeypatch):
    lines = plain(400, seconds_per_step=0.01, monkeypatch=monkeypatch)
    assert 20 <= len(lines) <= 22  # the first, and every 5 %
    assert lines[0].startswith("step 1/400  loss 1.234")
    figures = "lr 8.0e-4  123.4k tok/s  45.6k learned/s  1.2 GB"  # longer than 80 columns, in one
    assert figures in lines[-1]
    assert lines[-1].startswith("step 400/400")


def test_a_slow_run_is_heard_every_ten_seconds_and_a_long_one_does_not_fill_the_file(monkeypatch):
    lines = plain(400, seconds_per_step=2.5, monkeypatch=monkeypatch)  # 1,000 s
    assert 95 <= len(lines) <= 125
    lines = plain(4000, seconds_per_step=9.0, monkeypatch=monkeypatch)  # ten hours
    assert 95 <= len(lines) <= 125


def test_what_happens_on_the_way_is_said():
    out = io.StringIO()
    with ProgressBar(Console(file=out, width=60)) as bar:
        bar({"event": "data", "part": "train", "summary": ""})
        bar({"event": "plan", "layout": "rows share their starts", "is_tree": True})
        bar({"event": "plan", "layout": "rows are padded: dropout", "is_tree": False})
        bar(START)
        bar(held_out(1, 3.0))
        sample = {"event": "sample", "prompt": "Say [b]one", "num_tokens": 2, "step": 3}
        bar(sample | {"answer": " one\nor two", "stopped": True})
        bar(sample | {"answer": "one one", "stopped": False})
        bar({"event": "note", "text": "micro-batches are smaller"})
    lines = out.getvalue().splitlines()
    assert lines.pop(0) == "rows are padded: dropout"
    assert lines[0].startswith("learning rate 0.001 (as given); 300,000 parameters are trained")
    assert "the model has 4,000,000" in lines[0]
    assert lines[0].endswith("1,600 examples")
    assert lines[1:] == [
        "step 100 (epoch 1): held-out loss 1.5000",
        "  Say [b]one",
        "  → one",
        "    or two",
        "  Say [b]one",
        "  → one one … (cut after 2 tokens)",
        "note: micro-batches are smaller",
    ]


def test_it_goes_to_stderr(capsys):
    with ProgressBar() as bar:
        bar(held_out(1, 3.0))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "held-out loss 1.5" in captured.err


def test_a_measurement_in_an_epoch_is_told_once_and_by_its_step():
    out = io.StringIO()
    with ProgressBar(Console(file=out, width=80)) as bar:
        bar(START)
        bar(held_out(0, 0.0))
        for number in (200, 400):
            bar(step(number, 1.0 * number))
            bar(held_out(number // 100, 1.0 * number))
    told = [line for line in out.getvalue().splitlines() if "held-out" in line]
    assert [line.partition(":")[0] for line in told] == [
        "step 0",
        "step 200 (epoch 2)",
        "step 400 (epoch 4)",
    ]
