#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Counts tests over several runs and prints what failed and what was skipped.

usage: count.py RESULTS

RESULTS holds one line a step, fields parted by tabs:
    meson  LABEL  FILE    a testlog.json that `meson test` wrote for the build LABEL
    pass   NAME
    fail   NAME   LOG     LOG is the file whose tail tells why
    skip   NAME   REASON
A cmocka program counts as many tests as the TAP lines it printed; any other program is one test. The last line is
`N passed, N failed, N skipped`; the exit status is 0 if none failed and something ran.
"""
import json
import re
import sys

TAIL = 40  # lines of a failed test's output
POINT = re.compile(r"^(not )?ok \d+\s*(?:- )?(.*)$")


def points(output):
    """The TAP test points in a program's output: (status, name, reason)."""
    found, before = [], ""
    for line in output.splitlines():
        point = POINT.match(line)
        if not point:
            before = line if line.strip() and not re.match(r"^(\d+\.\.\d+|#)", line) else before
            continue
        name, skip, rest = point.group(2).partition("# SKIP")
        if skip and name:  # as TAP has it: the name, then the reason
            found.append(("skip", name.strip(), rest.strip() or before or "no reason given"))
        elif skip:  # as cmocka has it: the name follows, the test printed the reason
            found.append(("skip", rest.strip(), before or "no reason given"))
        else:
            found.append(("fail" if point.group(1) else "pass", name, ""))
        before = ""
    return found


def read_testlog(label, path):
    """Yields (status, name, reason or output) for every test in one testlog.json."""
    with open(path, encoding="utf-8", errors="replace") as log:
        for line in log:
            test = json.loads(line)
            output = test.get("stdout", "") + test.get("stderr", "")
            where = f"{label}: {test['name']}"
            inner = points(test.get("stdout", ""))
            for status, name, reason in inner:
                yield status, f"{where}: {name}", output if status == "fail" else reason
            if test["result"] in ("OK", "EXPECTEDFAIL"):
                if not inner:
                    yield "pass", where, ""
            elif test["result"] == "SKIP":
                if not inner:
                    lines = output.strip().splitlines()
                    yield "skip", where, lines[-1] if lines else "no reason given"
            elif not any(status == "fail" for status, _, _ in inner):
                yield "fail", f"{where} ({test['result'].lower()})", output


def read_results(path):
    with open(path, encoding="utf-8") as results:
        for line in results:
            kind, name, *rest = line.rstrip("\n").split("\t")
            if kind == "meson":
                yield from read_testlog(name, rest[0])
            elif kind == "fail":
                with open(rest[0], encoding="utf-8", errors="replace") as log:
                    yield kind, name, log.read()
            else:
                yield kind, name, rest[0] if rest else ""


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    count = {"pass": 0, "fail": 0, "skip": 0}
    failed, skipped, shown = [], [], set()
    for status, name, text in read_results(sys.argv[1]):
        count[status] += 1
        if status == "fail":
            failed.append((name, text))
        elif status == "skip":
            skipped.append((name, text))
    for name, text in failed:
        print(f"FAILED  {name}")
        if text not in shown:
            print("\n".join("    " + line for line in text.strip().splitlines()[-TAIL:]))
        shown.add(text)
    for name, reason in skipped:
        print(f"skipped  {name}: {reason}")
    print(f"{count['pass']} passed, {count['fail']} failed, {count['skip']} skipped")
    sys.exit(1 if count["fail"] or not count["pass"] else 0)


main()
