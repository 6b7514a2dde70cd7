#!/usr/bin/env python3
"""Numbered changes to a directory, and the proof that what a crash left is one moment of their history.

    history.py write DIRECTORY LOG SEED [WRITERS] [--lie]     changes until something fails; LOG must lie elsewhere
    history.py check DIRECTORY LOG SEED [WRITERS] [--acknowledged] [--cut=NANOSECONDS]

Each writer works in a directory of its own. Which change is its n-th follows from the seed alone, so the checker plays the same history in
memory, and looks after which change memory and disk are equal. What is demanded:

1. A prefix: each writer's directory is what it was after some number of its changes (or in the middle of one write, between two pages).
2. fsync means it: what had returned, from any writer, before an fsync began that returned 0, is there.
3. One moment: if a change is there, so is every change, from any writer, that had returned before it began.
4. With --acknowledged (kill -9, or --sync always): every change that had returned is there.

With --cut, what had returned means: before that moment. A power cut ends everybody at once; the ioctl that plays one takes some milliseconds, in
which ext4 itself answers fsyncs with success whose data is gone afterwards (so does plain fdatasync on a plain file, about every third time).

LOG has one line an event, handed to the kernel as soon as it has happened: `writer number begin end` (nanoseconds) for a change,
`sync writer 0 begin end` for an fsync. --lie logs fsyncs that are never done: then the check must fail, or it checks nothing.
"""

import os
import random
import sys
import threading
import time

FSYNC_EVERY = 23
PAGE = 4096


class History:
    """The changes of one writer, in order, on a tree that is kept in memory: {name: bytes, None for a directory}."""

    def __init__(self, seed, writer):
        self.random = random.Random(f"{seed}/{writer}")
        self.tree = {}
        self.number = 0

    def next(self):
        """Returns the next change as (kind, name, ...) and makes it in memory; names are relative."""
        r = self.random
        self.number += 1
        n = self.number
        files = sorted(name for name, content in self.tree.items() if content is not None)
        directories = [""] + sorted(name + "/" for name, content in self.tree.items() if content is None)
        kind = r.choices(
            ["create", "replace", "append", "write", "truncate", "unlink", "rename", "rename-over", "mkdir", "rmdir"],
            [25, 8, 25, 10, 5, 12, 10, 15, 4, 2],
        )[0]
        if len(files) < 3:
            kind = "create"
        if len(files) > 300:
            kind = "unlink"
        if kind == "create":
            name = f"{r.choice(directories)}f{n}"
            # Its content is a later change: each change is one call to the kernel, or a crash in between would be no moment.
            self.tree[name] = b""
            return ("create", name)
        name = r.choice(files) if files else None
        if kind in ("append", "replace"):
            content = self.bytes(n, r.choice([10, 300, 1500, 5000, 40000]))
            if kind == "replace":
                # One write over the start: as long as the content is, or longer.
                content = content.ljust(len(self.tree[name]), b"r")
                self.tree[name] = content
                return ("write", name, 0, content)
            offset = len(self.tree[name])
            self.tree[name] += content
            return ("write", name, offset, content)
        if kind == "write":
            offset = r.randrange(0, len(self.tree[name]) + 20000)
            content = self.bytes(n, r.choice([10, 4096, 9000]))
            old = self.tree[name].ljust(offset, b"\0")
            self.tree[name] = old[:offset] + content + old[offset + len(content) :]
            return ("write", name, offset, content)
        if kind == "truncate":
            size = r.randrange(0, len(self.tree[name]) + 1000)
            self.tree[name] = self.tree[name][:size].ljust(size, b"\0")
            return ("truncate", name, size)
        if kind == "unlink":
            del self.tree[name]
            return ("unlink", name)
        if kind == "mkdir":
            self.tree[f"d{n}"] = None
            return ("mkdir", f"d{n}")
        if kind == "rmdir":
            empty = [d for d in directories[1:] if not any(f.startswith(d) for f in self.tree)]
            if empty:
                del self.tree[empty[0][:-1]]
                return ("rmdir", empty[0][:-1])
            kind = "rename"
        if kind == "rename-over" and len(files) > 1:
            other = r.choice([f for f in files if f != name])
            self.tree[other] = self.tree.pop(name)
            return ("rename", name, other)
        name2 = f"{r.choice(directories)}r{n}"
        self.tree[name2] = self.tree.pop(name)
        return ("rename", name, name2)

    @staticmethod
    def bytes(number, length):
        return (f"change {number}; " * (length // 9 + 1)).encode()[:length]

    def touched(self, change):
        return [part for part in change[1:3] if isinstance(part, str)]


def apply(directory, change):
    kind, path = change[0], os.path.join(directory, change[1])
    if kind == "create":
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    elif kind == "write":
        f = os.open(path, os.O_WRONLY)
        try:
            written = os.pwrite(f, change[3], change[2])
            assert written == len(change[3]), "a short write"
        finally:
            os.close(f)
    elif kind == "truncate":
        os.truncate(path, change[2])
    elif kind == "unlink":
        os.unlink(path)
    elif kind == "rename":
        os.rename(path, os.path.join(directory, change[2]))
    elif kind == "mkdir":
        os.mkdir(path)
    elif kind == "rmdir":
        os.rmdir(path)


def fsync(path):
    f = os.open(path, os.O_RDONLY)
    try:
        os.fsync(f)
    finally:
        os.close(f)


def write(directory, log_path, seed, writers, lie):
    log = os.open(log_path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_TRUNC, 0o644)
    bases = [os.path.join(directory, f"writer{w}") for w in range(writers)]
    for base in bases:
        os.mkdir(base)
    # The directories themselves are there before the first line of the log is.
    fsync(directory)
    start = threading.Barrier(writers)
    over = threading.Event()

    def work(w):
        history = History(seed, w)
        start.wait()
        try:
            while not over.is_set():
                change = history.next()
                begin = time.monotonic_ns()
                apply(bases[w], change)
                os.write(log, f"{w} {history.number} {begin} {time.monotonic_ns()}\n".encode())
                if history.number % FSYNC_EVERY == 0:
                    # By turns the file that was touched, if it is still there, and the directory.
                    path = os.path.join(bases[w], history.touched(change)[-1])
                    if history.number % 2 or not os.path.lexists(path):
                        path = bases[w]
                    begin = time.monotonic_ns()
                    if not lie:
                        fsync(path)
                    os.write(log, f"sync {w} 0 {begin} {time.monotonic_ns()}\n".encode())
        except OSError as error:
            print(f"writer {w} ends at change {history.number}: {error}")
            over.set()

    threads = [threading.Thread(target=work, args=(w,)) for w in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def read_tree(base):
    tree = {}
    for place, directories, files in os.walk(base):
        inside = os.path.relpath(place, base)
        for name in directories:
            tree[os.path.normpath(os.path.join(inside, name))] = None
        for name in files:
            with open(os.path.join(place, name), "rb") as f:
                tree[os.path.normpath(os.path.join(inside, name))] = f.read()
    return tree


def parts(tree, change):
    """What a file may be in the middle of a write. The kernel cuts a write(2) at the borders of its pages, so each such part is a
    change of its own to the filesystem, and a moment between two of them is a moment. No other change comes in parts."""
    _, name, offset, content = change
    old = tree[name].ljust(offset, b"\0")
    cuts = range((offset // PAGE + 1) * PAGE, offset + len(content), PAGE)
    return [old[:offset] + content[: cut - offset] + old[cut:] for cut in cuts]


def moments(seed, writer, found, count):
    """After which numbers of changes memory equals what was found."""
    history = History(seed, writer)
    absent = object()
    different = set(found)
    equal = [0] if not different else []
    nearest = (len(different), 0, sorted(different))
    for number in range(1, count + 1):
        before = history.tree.copy() if len(different) <= 1 else None
        change = history.next()
        if before is not None and change[0] == "write" and different <= {change[1]} and found.get(change[1]) in parts(before, change):
            equal.append(number - 1)
        for name in history.touched(change):
            if history.tree.get(name, absent) == found.get(name, absent):
                different.discard(name)
            else:
                different.add(name)
        if not different:
            equal.append(number)
        elif len(different) < nearest[0]:
            nearest = (len(different), number, [describe(name, history.tree.get(name), found.get(name)) for name in sorted(different)])
    return equal, nearest


def describe(name, expected, found):
    if expected is None or found is None:
        return f"{name}: {'absent or a directory' if expected is None else f'{len(expected)} bytes'} in memory, on disk {'not so' if found is None else f'{len(found)} bytes'}"
    first = next((i for i, (a, b) in enumerate(zip(expected, found)) if a != b), min(len(expected), len(found)))
    return f"{name}: {len(expected)} bytes in memory, {len(found)} on disk, different from {first} on: {expected[first:first + 20]} {found[first:first + 20]}"


def check(directory, log_path, seed, writers, acknowledged, cut):
    changes = [[] for _ in range(writers)]
    syncs = []
    with open(log_path) as f:
        for line in f:
            words = line.split()
            if len(words) != 5 and words[0] == "sync" or len(words) != 4 and words[0] != "sync":
                continue  # the writer was killed in the middle of a line
            if words[0] == "sync":
                if int(words[4]) < cut:
                    syncs.append((int(words[3]), int(words[4])))
            else:
                w, number, begin, end = map(int, words)
                changes[w].append((begin, end))
                assert len(changes[w]) == number
    complaints = []
    present = []
    for w in range(writers):
        found = read_tree(os.path.join(directory, f"writer{w}"))
        # One more than was logged may have been done.
        equal, nearest = moments(seed, w, found, len(changes[w]) + 1)
        if not equal:
            complaints.append(
                f"writer {w}: what is there ({len(found)} names) was so at no moment of its {len(changes[w])} changes; "
                f"nearest is after {nearest[1]}: {nearest[2][:5]}"
            )
        present.append(equal)
    if complaints:
        return complaints

    def returned_before(w, moment):
        """How many changes of a writer had returned before a moment, and before the cut. They end in order."""
        moment = min(moment, cut)
        low, high = 0, len(changes[w])
        while low < high:
            middle = (low + high) // 2
            if changes[w][middle][1] < moment:
                low = middle + 1
            else:
                high = middle
        return low

    last_sync = max((begin for begin, _ in syncs), default=0)
    for w in range(writers):
        needed = returned_before(w, last_sync)
        if present[w][-1] < needed:
            complaints.append(f"writer {w}: {needed} changes had returned before a successful fsync, {present[w][-1]} are there")
        needed = returned_before(w, cut)
        if acknowledged and present[w][-1] < needed:
            complaints.append(f"writer {w}: {needed} changes had returned, {present[w][-1]} are there")
        last = present[w][0]
        if 0 < last <= len(changes[w]):
            for v in range(writers):
                needed = returned_before(v, changes[w][last - 1][0])
                if present[v][-1] < needed:
                    complaints.append(
                        f"change {last} of writer {w} is there, and {needed} changes of writer {v} had returned before it began, "
                        f"but {present[v][-1]} are there"
                    )
    if not complaints:
        done = ", ".join(f"{p[-1]}/{len(c)}" for p, c in zip(present, changes))
        print(f"changes there/logged: {done}; {len(syncs)} fsyncs")
        if sum(map(len, changes)) < 50:
            complaints.append(f"only {sum(map(len, changes))} changes were made: that proves nothing")
    return complaints


def main():
    flags = {word for word in sys.argv[1:] if word.startswith("--")}
    cuts = [int(flag.removeprefix("--cut=")) for flag in flags if flag.startswith("--cut=")]
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    mode, directory, log, seed = words[:4]
    writers = int(words[4]) if len(words) > 4 else 3
    if mode == "write":
        write(directory, log, seed, writers, "--lie" in flags)
    else:
        complaints = check(directory, log, seed, writers, "--acknowledged" in flags, cuts[0] if cuts else sys.maxsize)
        for complaint in complaints:
            print(complaint, file=sys.stderr)
        sys.exit(1 if complaints else 0)


main()
