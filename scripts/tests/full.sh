#!/usr/bin/env bash
# A full disk is an error, not an accident: ENOSPC, everything that was acknowledged is there, removing works, and then writing works again,
# without a remount.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
[ "$(id -u)" = 0 ] || { echo "skipped: needs root for a loop device"; exit 0; }
scratch
LOWER=$WORK/lower
mkdir "$LOWER"
DATA=$LOWER/data
truncate -s 220M "$WORK/image"
mkfs.ext4 -q -m 0 "$WORK/image"
mount -o loop "$WORK/image" "$LOWER" 2>/dev/null || { echo "skipped: no loop devices here"; exit 0; }
end_loop() {
    code=$?
    set +e
    cd /
    is_mounted && { timeout 20 "$BITKV" umount "$MNT" || umount -l "$MNT"; }
    umount "$LOWER" 2>/dev/null || umount -l "$LOWER" 2>/dev/null
    (exit $code)
    cleanup
}
trap end_loop EXIT
mount_store --segment-size 8M
python3 - "$MNT" <<'PY'
import errno, hashlib, os, sys, time
mnt = sys.argv[1]
def content(i): return hashlib.sha256(str(i).encode()).digest() * 1500
def write(i):
    with open(f"{mnt}/f{i}", "wb", buffering=0) as f:
        data = content(i)
        while data: data = data[f.write(data):]
def fill(i):
    try:
        while True:
            write(i); i += 1
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
    return i
full = fill(0)
assert full > 1000, full
print(f"full after {full} files")
for i in range(full):
    assert open(f"{mnt}/f{i}", "rb").read() == content(i), i
# Who asks for space before writing is told at once, and nothing changes.
before = os.stat(f"{mnt}/f0")
fd = os.open(f"{mnt}/f0", os.O_WRONLY)
for length in (1 << 30, 100 << 20):
    try:
        os.posix_fallocate(fd, 0, length)
        raise AssertionError(f"{length} bytes of a full disk are promised")
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
os.close(fd)
assert os.stat(f"{mnt}/f0") == before
# On the full disk: removing works, renaming works, truncating works.
os.rename(f"{mnt}/f1", f"{mnt}/renamed")
os.rename(f"{mnt}/renamed", f"{mnt}/f1")
os.truncate(f"{mnt}/f2", 0)
for i in range(3, full, 2):
    os.unlink(f"{mnt}/f{i}")
open(f"{mnt}/.bitkv/compact", "w").write("all wait\n")
again = fill(full)
print(f"{again - full} more files after half of them were removed")
assert again - full > full // 4, again - full
for i in list(range(4, full, 2)) + list(range(full, again)):
    assert open(f"{mnt}/f{i}", "rb").read() == content(i), i
PY
same "health" ok "$(cat "$MNT/.bitkv/health")"
unmount_store
mount_store --segment-size 8M
[ "$(ls "$MNT" | wc -l)" -gt 500 ] || fail "files are gone"
unmount_store
