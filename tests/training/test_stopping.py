import os
import signal
import threading

import pytest

from biddable.training.stopping import StopSignals


def test_the_first_signal_is_noted_and_the_next_is_the_systems_own(capfd):
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as signals:
        assert signals.asked is None
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.asked == signal.SIGINT
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == before
    assert capfd.readouterr().err.startswith("biddable: saving, then stopping")
    stopped = signals.stopped(step=1_000, num_steps=2_000)
    assert str(stopped) == "stopped by Ctrl-C, and saved at step 1,000 of 2,000."
    assert stopped.exit_code == 130


def test_of_torchruns_processes_one_that_ends_by_an_error_can_still_say_so(monkeypatch):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        for sets in (False, True):
            if sets:
                monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
            with pytest.raises(KeyError), StopSignals():
                raise KeyError
            os.kill(os.getpid(), signal.SIGTERM)
            assert len(heard) == 1  # the first time at once; then one passes
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(heard) == 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_of_torchruns_processes_the_first_alone_says_that_it_saves(monkeypatch, capfd):
    monkeypatch.setenv("RANK", "1")
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
    assert signals.asked == signal.SIGINT
    assert capfd.readouterr().err == ""


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.asked is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_catches_none():
    found = []

    def listen():
        with StopSignals():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]
