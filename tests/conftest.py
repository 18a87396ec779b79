"""What holds for all tests."""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a job in the background of a script. Our children would ignore Ctrl-C as well, and half
    # of what a terminal does could not be tried.
    signal.signal(signal.SIGINT, signal.default_int_handler)
