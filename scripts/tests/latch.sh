#!/usr/bin/env bash
# A sync that fails is never taken for a good one: the disk under the store loses what it took. The store then takes no more changes,
# says why, goes on reading, and a later sync isn't a false success. After the next mount everything that was synced is there.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
needs_store
[ "$(id -u)" = 0 ] || skip "needs root for a loop device"
need mkfs.ext4 e2fsprogs
scratch
OUTER=$WORK/outer
LOWER=$WORK/lower
mkdir "$OUTER" "$LOWER"
DATA=$LOWER/data
tidy() {
    for _ in 1 2 3 4 5; do
        umount "$LOWER" 2>/dev/null || ! mountpoint -q "$LOWER" && break
        sleep 0.2
    done
    mountpoint -q "$LOWER" && umount -l "$LOWER"
    umount "$OUTER" 2>/dev/null || umount -l "$OUTER" 2>/dev/null
}
# A filesystem that believes in 400 MB, on an image that can't grow beyond 96: what it takes in memory it can't write back.
mount -t tmpfs -o size=96M none "$OUTER" 2>/dev/null || skip "no tmpfs can be mounted here"
truncate -s 400M "$OUTER/image"
mkfs.ext4 -q -m 0 -O ^has_journal "$OUTER/image"
mount -o loop "$OUTER/image" "$LOWER" 2>/dev/null || skip "no loop devices here"
mount_store --segment-size 4M --sync fsync --no-auto-compact
python3 - "$MNT" "$WORK/synced" <<'PY'
import errno, hashlib, os, sys
mnt, log = sys.argv[1], open(sys.argv[2], "w")
def content(i): return hashlib.sha256(str(i).encode()).digest() * 8192
def is_well(i): return open(f"{mnt}/f{i}", "rb").read() == content(i)
n, failure = 0, None
while failure is None:
    try:
        with open(f"{mnt}/f{n}", "xb", buffering=0) as f:
            assert f.write(content(n)) == len(content(n))
            os.fsync(f.fileno())
        log.write(f"{n}\n")
        n += 1
    except OSError as error:
        failure = error
    assert n < 2000, "the disk never failed"
print(f"{n} files were synced, then: {failure}")
assert n > 50 and failure.errno in (errno.EIO, errno.EROFS), failure
def refused(what, call):
    try: call()
    except OSError as error: assert error.errno in (errno.EROFS, errno.EIO), (what, error)
    else: raise AssertionError(f"{what} was taken")
def sync_it():
    d = os.open(mnt, os.O_RDONLY)
    try: os.fsync(d)
    finally: os.close(d)
for _ in range(3):
    refused("a sync", sync_it)
refused("a new file", lambda: open(f"{mnt}/new", "x"))
refused("a rename", lambda: os.rename(f"{mnt}/f1", f"{mnt}/g1"))
refused("a removal", lambda: os.unlink(f"{mnt}/f1"))
assert all(is_well(i) for i in range(0, n)), "what was synced can't be read any more"
PY
case $(cat "$MNT/.bitkv/health") in
    "read-only: "*) ;;
    *) fail "health says: $(cat "$MNT/.bitkv/health")" ;;
esac
refused "the trigger of a sync" bash -c "echo 1 > '$MNT/.bitkv/sync'"
# The disk has space again. What was lost stays lost: no success now either.
mount -o remount,size=900M "$OUTER"
refused "the trigger of a sync, with space below" bash -c "echo 1 > '$MNT/.bitkv/sync'"
if unmount_store; then fail "the last sync was taken for a good one"; fi
mount_store
same "health after the next mount" ok "$(cat "$MNT/.bitkv/health")"
python3 - "$MNT" "$WORK/synced" <<'PY'
import hashlib, sys
mnt = sys.argv[1]
for line in open(sys.argv[2]):
    i = int(line)
    assert open(f"{mnt}/f{i}", "rb").read() == hashlib.sha256(str(i).encode()).digest() * 8192, i
open(f"{mnt}/new", "w").write("it takes changes again")
PY
unmount_store
