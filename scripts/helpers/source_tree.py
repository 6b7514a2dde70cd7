#!/usr/bin/env python3
"""source_tree.py REGISTRY DIRECTORY COUNT: lays out that many files of source text.

Whole crates are taken from a local cargo registry, in the order of their names; what is missing is made up, the same each time: sizes of all
kinds (empty, small, on and around 4 KiB and the size of pieces), some executable, some links.
"""

import os
import random
import shutil
import sys


def files_in(directory):
    return sum(len(files) for _, _, files in os.walk(directory))


def copy_registry(registry, directory, count):
    copied = 0
    for index in sorted(os.listdir(registry)) if os.path.isdir(registry) else []:
        for crate in sorted(os.listdir(os.path.join(registry, index))):
            if copied >= count:
                return copied
            source = os.path.join(registry, index, crate)
            size = files_in(source)
            # A huge crate would fill the tree alone, and slow every test.
            if not os.path.isdir(source) or size > count // 4:
                continue
            shutil.copytree(source, os.path.join(directory, crate), symlinks=True)
            copied += size
    return copied


def make_up(directory, count):
    r = random.Random(7)
    sizes = [0, 1, 10, 700, 1024, 4095, 4096, 4097, 5000, 16383, 16384, 16385, 20000, 70000]
    for i in range(count):
        place = os.path.join(directory, f"made-up-{i % 97}", f"sub{i % 7}")
        os.makedirs(place, exist_ok=True)
        path = os.path.join(place, f"file{i}.rs")
        with open(path, "wb") as f:
            f.write(r.randbytes(r.choice(sizes)))
        if i % 50 == 0:
            os.chmod(path, 0o755)
            os.symlink(f"file{i}.rs", os.path.join(place, f"link{i}"))


def main():
    registry, directory, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    copied = copy_registry(registry, directory, count - count // 10)
    make_up(directory, max(count - copied, count // 10))


main()
