#!/usr/bin/env python3
"""stripe.py CONTROL CALL [BODY]: controls the demo's stub of Stripe's API.

CALL is one of test/stub/stripe_control.py, BODY its JSON.  Prints the answer.
"""

import sys

from slack import ask


def main():
    sys.stdout.reconfigure(encoding="utf-8")
    control, call, *body = sys.argv[1:]
    print(ask(control, call, *body))


if __name__ == "__main__":
    main()
