#!/usr/bin/env bash
# Power loss: the store lies on a filesystem of its own, which is shut down without flushing while a program writes.
# Everything that was synced before is there, and what survives is one moment in time: a prefix of what was done.
# Before means: answered before the cut began. In the milliseconds it takes, ext4 itself answers syncs with success that are gone afterwards.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
ROUNDS=${ROUNDS:-3}
FSTYPE=${FSTYPE:-ext4}
[ "$(id -u)" = 0 ] || { echo "skipped: needs root for a loop device"; exit 0; }
scratch
LOWER=$WORK/lower
mkdir "$LOWER"
DATA=$LOWER/data
truncate -s 1500M "$WORK/image"
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
for round in $(seq "$ROUNDS"); do
    "mkfs.$FSTYPE" -q "$WORK/image"
    mount -o loop "$WORK/image" "$LOWER" 2>/dev/null || { echo "skipped: no loop devices here"; exit 0; }
    mount_store --segment-size 4M --sync-interval 200ms
    python3 - "$MNT" "$WORK/acknowledged" "$round" <<'PY' &
import os, random, sys, time
mnt, log, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
r = random.Random(seed)
log = open(log, "w")
n = 0
try:
    while True:
        # Operation n: file n comes with its number in it; sometimes over another name; sometimes an old one goes.
        n += 1
        name = f"{mnt}/file{n:07}"
        with open(f"{mnt}/new", "wb") as f:
            f.write(f"{n}\n".encode() + bytes([n % 251]) * r.choice([10, 1000, 5000, 40000]))
            synced = r.random() < .05
            if synced:
                f.flush(); os.fsync(f.fileno())
        os.rename(f"{mnt}/new", name)
        if r.random() < .05:
            fd = os.open(mnt, os.O_RDONLY); os.fsync(fd); os.close(fd)
            log.write(f"synced {n} {time.monotonic_ns()}\n")
        log.write(f"done {n} {time.monotonic_ns()}\n")
        log.flush()
except OSError:
    pass
PY
    writer=$!
    sleep "$((RANDOM % 3)).$((RANDOM % 9 + 1))"
    cut=$(python3 "$ROOT/scripts/helpers/shutdown_fs.py" "$LOWER")
    pid=$(cat /proc/mounts >/dev/null; pgrep -f "bitkv-mount.*$MNT" | head -n 1 || true)
    [ -n "$pid" ] && kill -9 "$pid"
    kill "$writer" 2>/dev/null || true
    wait "$writer" 2>/dev/null || true
    umount -l "$MNT" 2>/dev/null || true
    while [ -n "$pid" ] && is_alive "$pid"; do sleep 0.05; done
    unmount_disk "$WORK/image" "$LOWER"
    mount -o loop "$WORK/image" "$LOWER"
    mount_store --segment-size 4M
    python3 - "$MNT" "$WORK/acknowledged" "$cut" <<'PY'
import os, sys
mnt, log, cut = sys.argv[1], sys.argv[2], int(sys.argv[3])
lines = [l.split() for l in open(log) if l.endswith("\n")]
done = max([int(n) for w, n, _ in lines if w == "done"], default=0)
synced = max([int(n) for w, n, when in lines if w == "synced" and int(when) < cut], default=0)
there = sorted(int(n[4:]) for n in os.listdir(mnt) if n.startswith("file"))
assert there == list(range(1, len(there) + 1)), f"not a prefix: {there[-5:]} of {len(there)}"
assert len(there) >= synced, f"{synced} was synced, {len(there)} are there"
assert len(there) <= done + 1, f"{len(there)} are there, {done} were done"
for n in there:
    data = open(f"{mnt}/file{n:07}", "rb").read()
    head, rest = data.split(b"\n", 1)
    assert int(head) == n and rest == bytes([n % 251]) * len(rest) and len(rest) in (10, 1000, 5000, 40000), n
print(f"{done} done, {synced} synced, {len(there)} there")
PY
    unmount_store
    unmount_disk "$WORK/image" "$LOWER"
done
