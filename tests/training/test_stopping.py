import os
import signal
import threading

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
