#!/usr/bin/env python3
"""Many at work in one directory, each on files of its own beside all others, knowing what must be in them.

    mixed.py DIRECTORY SECONDS WORKERS SEED

Prints how many operations there were. Fails at the first answer that isn't what a plain tree would give. Everything is removed at the end.
"""

import errno
import os
import random
import sys
import time


class Worker:
    def __init__(self, directory, number, seed):
        self.random = random.Random(f"{seed}/{number}")
        self.directory = directory
        self.number = number
        self.tree = {}
        self.count = 0

    def path(self, name):
        return os.path.join(self.directory, name)

    def fresh(self):
        self.count += 1
        # Shared directories: names of all workers lie side by side.
        return f"d{self.random.randrange(4)}/w{self.number}-{self.count}"

    def content(self, size):
        return self.random.randbytes(min(size, 4096)) * (1 + size // 4096)

    def some(self):
        return self.random.choice(list(self.tree))

    def step(self):
        kinds = ["create", "read", "overwrite", "append", "truncate", "rename", "over", "unlink", "stat", "list", "fsync", "map", "xattr", "nameless"]
        weights = [20, 20, 8, 8, 3, 8, 3, 12, 10, 1, 2, 3, 2, 4]
        kind = self.random.choices(kinds, weights)[0]
        if len(self.tree) < 5:
            kind = "create"
        if len(self.tree) > 100:
            kind = "unlink"
        getattr(self, "do_" + kind)()

    def do_create(self):
        name = self.fresh()
        data = self.content(self.random.choice([0, 10, 1000, 5000, 70000, 300000]))
        with open(self.path(name), "xb") as file:
            file.write(data)
        self.tree[name] = data

    def do_nameless(self):
        """Made without a name; half of them are given one."""
        name = self.fresh()
        data = self.content(self.random.choice([0, 10, 5000, 70000]))
        try:
            descriptor = os.open(self.path(os.path.dirname(name)), os.O_TMPFILE | os.O_RDWR, 0o600)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return
            raise
        with os.fdopen(descriptor, "w+b") as file:
            file.write(data)
            file.flush()
            if self.random.random() < 0.5:
                # With a directory, though it means nothing here: else the link itself would be linked.
                os.link(f"/proc/self/fd/{descriptor}", self.path(name), src_dir_fd=descriptor)
                self.tree[name] = data
            file.seek(0)
            assert file.read() == data, f"{name} has another content before it has a name"

    def do_read(self):
        name = self.some()
        with open(self.path(name), "rb") as file:
            assert file.read() == self.tree[name], f"{name} has another content"

    def do_overwrite(self):
        name = self.some()
        at = self.random.randrange(len(self.tree[name]) + 1)
        data = self.content(self.random.randrange(6000))
        with open(self.path(name), "r+b") as file:
            file.seek(at)
            file.write(data)
        old = self.tree[name]
        self.tree[name] = old[:at] + data + old[at + len(data) :]

    def do_append(self):
        name = self.some()
        if len(self.tree[name]) > 2_000_000:
            return self.do_unlink()
        data = self.content(self.random.randrange(20000))
        with open(self.path(name), "ab") as file:
            file.write(data)
        self.tree[name] += data

    def do_truncate(self):
        name = self.some()
        size = self.random.randrange(len(self.tree[name]) * 2 + 1)
        os.truncate(self.path(name), size)
        self.tree[name] = self.tree[name][:size].ljust(size, b"\0")

    def do_rename(self):
        name, to = self.some(), self.fresh()
        os.rename(self.path(name), self.path(to))
        self.tree[to] = self.tree.pop(name)

    def do_over(self):
        name, to = self.some(), self.some()
        if name != to:
            os.rename(self.path(name), self.path(to))
            self.tree[to] = self.tree.pop(name)

    def do_unlink(self):
        name = self.some()
        with open(self.path(name), "rb") as file:
            os.unlink(self.path(name))
            assert file.read() == self.tree.pop(name), f"{name} has another content once it has no name"

    def do_stat(self):
        name = self.some()
        assert os.stat(self.path(name)).st_size == len(self.tree[name]), f"{name} has another size"
        assert not os.path.exists(self.path(self.fresh())), "a name that nobody made is there"

    def do_list(self):
        directory = f"d{self.random.randrange(4)}"
        mine = sorted(name for name in self.tree if name.startswith(directory + "/"))
        found = [f"{directory}/{name}" for name in os.listdir(self.path(directory)) if name.startswith(f"w{self.number}-")]
        missing, strange = set(mine) - set(found), set(found) - set(mine)
        assert sorted(found) == mine, f"{directory} lists {len(found)} of {len(mine)}; missing: {missing}; not there: {strange}"

    def do_fsync(self):
        with open(self.path(self.some()), "r+b") as file:
            os.fsync(file.fileno())

    def do_map(self):
        import mmap

        name = self.some()
        if not self.tree[name]:
            return
        with open(self.path(name), "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
            at = self.random.randrange(len(view))
            view[at] = 1
            view.flush()
        self.tree[name] = self.tree[name][:at] + b"\1" + self.tree[name][at + 1 :]

    def do_xattr(self):
        name = self.path(self.some())
        value = self.content(self.random.randrange(200))[:200]
        os.setxattr(name, "user.mixed", value)
        assert os.getxattr(name, "user.mixed") == value, f"{name} has another attribute"

    def run(self, seconds):
        end = time.monotonic() + seconds
        steps = 0
        while time.monotonic() < end:
            self.step()
            steps += 1
        for name, data in self.tree.items():
            with open(self.path(name), "rb") as file:
                assert file.read() == data, f"{name} has another content at the end"
            os.unlink(self.path(name))
        return steps


def main():
    directory, seconds, workers, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    for number in range(4):
        os.makedirs(os.path.join(directory, f"d{number}"), exist_ok=True)
    processes = []
    for number in range(workers):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(writer, b"%d" % Worker(directory, number, seed).run(seconds))
                os._exit(0)
            except BaseException as error:
                print(f"worker {number}: {type(error).__name__}: {error}", flush=True)
                os._exit(1)
        os.close(writer)
        processes.append((pid, reader))
    total = 0
    failed = 0
    for pid, reader in processes:
        total += int(os.read(reader, 20) or b"0")
        os.close(reader)
        failed += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0
    for number in range(4):
        if not failed:
            os.rmdir(os.path.join(directory, f"d{number}"))
    print(f"{total} operations by {workers}")
    sys.exit(1 if failed else 0)


main()
