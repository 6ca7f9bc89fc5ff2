#!/usr/bin/env python3
"""percentiles.py SENT JOURNAL: from the sending of a statement to Slack's receipt.

SENT is what latency.c printed, JOURNAL the stub's requests.jsonl.
"""

import json
import sys


def main():
    with open(sys.argv[1], encoding="ascii") as file:
        sent = {int(number): float(at) for number, at in map(str.split, file)}
    received = {}
    with open(sys.argv[2], encoding="utf-8") as file:
        for entry in map(json.loads, file):
            number = int(entry["payload"]["text"].split()[1])
            received.setdefault(number, entry["at"])
    took = sorted((received[number] - at) * 1000 for number, at in sent.items())
    print(f"from commit to receipt, of {len(took)}: p50 {took[len(took) // 2]:.2f} ms, "
          f"p99 {took[int(len(took) * 0.99) - 1]:.2f} ms, most {took[-1]:.2f} ms")


main()
